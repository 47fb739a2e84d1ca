// One conversation with one engine: asks, streams the answer, and keeps both within the context.

import type { Engine } from '../../engine/engine.ts';
import type { FinishPart, GenerateOptions } from '../../engine/types.ts';
import { SwiftKVError } from '../../errors.ts';
import { describeAnswer } from '../sampling-options.ts';
import { formatCount } from '../table.ts';
import type { Conversation } from './conversation.ts';

export class ChatSession {
  readonly #engine: Engine;
  readonly #conversation: Conversation;
  readonly #sampling: GenerateOptions;
  /** Tokens that prompt and answer may have together. */
  readonly #context: number;
  /** Of them, tokens that the prompt may have. */
  readonly #promptRoom: number;
  #last: FinishPart | null = null;

  constructor(engine: Engine, conversation: Conversation, sampling: GenerateOptions) {
    const { maxModelLen, numBlocks, blockTokens } = engine.info();
    this.#engine = engine;
    this.#conversation = conversation;
    this.#sampling = sampling;
    this.#context = Math.min(maxModelLen, numBlocks * blockTokens);
    this.#promptRoom = this.#context - Math.min(Math.floor(this.#context / 4), sampling.maxTokens ?? this.#context);
  }

  /**
   * Says `text` and streams the answer to stdout. A stopped answer stays in the conversation as far as it came.
   * @param signal ends the answer
   * @param quiet of its reasons the one that is no error: the user has heard enough
   */
  async say(text: string, signal: AbortSignal, quiet: AbortSignal): Promise<void> {
    const conversation = this.#conversation;
    await conversation.say(text);
    let dropped = conversation.fit(this.#promptRoom);
    for (;;) {
      if (dropped > 0)
        note(`the conversation outgrew the context of ${this.#context} tokens: forgot ${turns(dropped)}`);
      let said = '';
      try {
        for await (const part of this.#engine.generate({
          ...this.#sampling,
          messages: conversation.messages,
          signal,
        })) {
          if (part.type === 'finish') this.#last = part;
          else {
            const chunk = said === '' ? part.text.trimStart() : part.text;
            process.stdout.write(chunk);
            said += chunk;
          }
        }
        this.#end(said);
        await conversation.answer(said);
        this.#noteLength();
        return;
      } catch (error) {
        const { code } = SwiftKVError.is(error) ? error : { code: null };
        if (code === 'ERR_ABORTED' && quiet.aborted) {
          this.#end(said);
          await conversation.answer(said);
          note('stopped');
          return;
        }
        // The count of tokens was a guess, and too low.
        const tooLong = code === 'ERR_CONTEXT_LENGTH' || code === 'ERR_CACHE_TOO_SMALL';
        if (tooLong && conversation.dropOldest()) dropped = 1;
        else {
          conversation.unsay();
          throw error;
        }
      }
    }
  }

  reset(): void {
    this.#conversation.reset();
    this.#last = null;
  }

  /** What the last answer took, and how full the context is. */
  describe(): string {
    const { numTurns, tokens } = this.#conversation;
    const answer = this.#last === null ? 'no answer yet\n' : describeAnswer(this.#last);
    return `${answer}${turns(numTurns)}, about ${formatCount(tokens)} of ${formatCount(this.#context)} tokens\n`;
  }

  #end(said: string): void {
    if (!said.endsWith('\n')) process.stdout.write('\n');
  }

  #noteLength(): void {
    const { finishReason, usage } = this.#last!;
    if (finishReason !== 'length' || usage.completionTokens === this.#sampling.maxTokens) return;
    note(`the answer ends here because the context of ${this.#context} tokens is full`);
  }
}

function note(text: string): void {
  process.stderr.write(`(${text})\n`);
}

function turns(n: number): string {
  return n === 1 ? '1 turn' : `${n} turns`;
}
