// One model's answers to every question about a document, with what they cost.

import type { Engine } from '../../engine/engine.ts';
import type { Timings, Usage } from '../../engine/types.ts';
import type { DemoDocument } from './document.ts';

export interface Variant {
  name: string;
  model: string;
  kvCacheDtype: 'bf16' | 'fp8';
}

export interface Answer {
  text: string;
  /** null when nobody said what is right. */
  right: boolean | null;
  usage: Usage;
  timings: Timings;
}

const maxAnswerTokens = 24;

/** Questions are asked one after the other, so that the times are those of one request. */
export async function compare(engine: Engine, document: DemoDocument, signal: AbortSignal): Promise<Answer[]> {
  const ask = (question: string, maxTokens: number) =>
    engine
      .generate({
        messages: [{ role: 'user', content: `${document.text}\n\n${question}` }],
        maxTokens,
        temperature: 0,
        signal,
      })
      .result();
  await ask(document.questions[0]!.question, 1); // the first run touches memory for the first time
  const answers: Answer[] = [];
  for (const { question, expected } of document.questions) {
    const { text, usage, timings } = await ask(question, maxAnswerTokens);
    const answer = text.trim();
    answers.push({ text: answer, right: expected === null ? null : answer === expected, usage, timings });
  }
  return answers;
}
