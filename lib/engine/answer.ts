// One answer to a request: its job, its text, and what of both has been handed to the reader.

import { type SwiftKVError, toSwiftKVError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { AnswerText } from './answer-text.ts';
import type { GenerateRequest } from './generate-options.ts';
import type { Job, JobListener } from './job.ts';
import { jobTimings, jobUsage } from './measures.ts';
import type { FinishPart, GenerateResult, TextPart, TokenLogprob } from './types.ts';

/** What an answer needs of the request it belongs to. */
export interface AnswerHost {
  /** Tokens that may wait for the reader; null: as many as there are. */
  readonly bound: number | null;
  /** When the reader asked, of performance.now(). */
  readonly submittedAt: number;
  answerUpdated(): void;
  fail(error: SwiftKVError): void;
  /** Ends a job whose answer is complete. */
  finish(job: Job): void;
  pause(job: Job): void;
  resume(job: Job): void;
}

export class Answer implements JobListener {
  readonly index: number;
  job: Job | null = null;
  /** Whether the finish part has been handed over. */
  closed = false;

  private readonly host: AnswerHost;
  private readonly request: GenerateRequest;
  private readonly text: AnswerText | null;
  /** Output tokens that have been handed over. */
  private taken = 0;

  constructor(host: AnswerHost, request: GenerateRequest, index: number, tokenizer: Tokenizer | null) {
    const { skipSpecialTokens } = request;
    this.host = host;
    this.request = request;
    this.index = index;
    this.text = tokenizer === null ? null : new AnswerText(tokenizer.streamDecoder({ skipSpecialTokens }), request);
  }

  get finished(): boolean {
    return this.job?.sequence.state === 'finished';
  }

  onUpdate(): void {
    const job = this.job!;
    if (this.text?.eager) this.lookForStop(this.text, job);
    if (!this.finished && this.full) this.host.pause(job);
    this.host.answerUpdated();
  }

  onError(error: SwiftKVError): void {
    this.host.fail(error);
  }

  /** The next part, or null while there is none: no tokens, or half a character. */
  take(): TextPart | FinishPart | null {
    if (this.job === null || this.closed) return null;
    const part = this.takeText();
    if (part !== null || !this.finished) return part;
    this.closed = true;
    return this.finishPart();
  }

  /** Everything at once, when it has finished and nothing has been taken. */
  result(promptLogprobs: (TokenLogprob | null)[] | null): GenerateResult {
    const part = this.takeText();
    const { type: _, ...finish } = this.finishPart();
    return {
      text: part?.text ?? '',
      tokenIds: part?.tokenIds ?? [],
      logprobs: part?.logprobs ?? (this.job!.logprobs === null ? null : []),
      promptLogprobs,
      ...finish,
    };
  }

  /** Whether as many tokens wait for the reader as may. */
  private get full(): boolean {
    const { bound } = this.host;
    return bound !== null && this.job!.sequence.numOutput - this.taken >= bound;
  }

  private takeText(): TextPart | null {
    const job = this.job!;
    const { sequence, logprobs } = job;
    const outputs = sequence.numOutput;
    if (this.taken === outputs) return null;
    let text = '';
    if (this.text !== null) {
      if (!this.text.eager) this.text.advance(sequence);
      // Without text there is nothing to say yet, unless the answer waits for these tokens to be taken.
      if (!this.text.hasText && !this.finished && !this.full) return null;
      text = this.text.take();
    }
    const from = this.taken;
    this.taken = outputs;
    if (sequence.paused) this.host.resume(job);
    const { promptLength, length } = sequence;
    const tokenIds: number[] = [];
    for (let i = promptLength + from; i < length; i++) tokenIds.push(sequence.tokens[i]!);
    return { type: 'text', index: this.index, text, tokenIds, logprobs: logprobs?.read(from, tokenIds) ?? null };
  }

  private finishPart(): FinishPart {
    const job = this.job!;
    const { finishReason, stopReason } = job.sequence;
    return {
      type: 'finish',
      index: this.index,
      finishReason: finishReason!,
      stopReason,
      seed: this.request.sampling.seed,
      usage: jobUsage(job),
      timings: jobTimings(job, this.host.submittedAt),
    };
  }

  /** Tokens after a stop string are not part of the answer: one more may be on its way. */
  private lookForStop(text: AnswerText, job: Job): void {
    try {
      const stop = text.advance(job.sequence);
      if (stop === null) return;
      job.sequence.finishReason = 'stop';
      job.sequence.stopReason = stop;
      this.host.finish(job);
    } catch (error) {
      // The loop calls this for all requests: a decoder that throws fails its own.
      this.host.fail(toSwiftKVError(error));
    }
  }
}
