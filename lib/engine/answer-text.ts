// The text of an answer as its tokens come: decoded, and ended by a stop string.

import { StopMatcher } from '../sampling/stop-strings.ts';
import type { StreamDecoder } from '../tokenizer/tokenizer.ts';
import type { GenerateRequest } from './generate-options.ts';
import type { Sequence } from './sequence.ts';

export class AnswerText {
  /** Somebody has to look at every token as it comes, whether or not anybody reads. */
  readonly eager: boolean;
  /** Output tokens that have been decoded. */
  private decoded = 0;
  private text = '';
  private ended = false;
  private readonly decoder: StreamDecoder;
  private readonly stops: StopMatcher | null;
  private readonly minTokens: number;

  constructor(decoder: StreamDecoder, { stops, includeStop, minTokens }: GenerateRequest) {
    this.decoder = decoder;
    this.stops = stops.length === 0 ? null : new StopMatcher(stops, includeStop);
    this.eager = this.stops !== null;
    this.minTokens = minTokens;
  }

  /** Decodes what has come. Returns the stop string that ends the answer, or null; then there is no more text. */
  advance(sequence: Sequence): string | null {
    if (this.ended) return null;
    const outputs = sequence.numOutput;
    // The token that stopped it is no part of the text.
    const spoken = typeof sequence.stopReason === 'number' ? outputs - 1 : outputs;
    while (this.decoded < spoken) {
      const piece = this.decoder.push(sequence.tokens[sequence.promptLength + this.decoded++]!);
      const stop = this.add(piece, this.decoded > this.minTokens);
      if (stop !== null) return stop;
    }
    return sequence.state === 'finished' ? this.end() : null;
  }

  /** Whether there is text to take. */
  get hasText(): boolean {
    return this.text !== '';
  }

  /** The text since the last call. */
  take(): string {
    const { text } = this;
    this.text = '';
    return text;
  }

  private add(piece: string, look: boolean): string | null {
    if (this.stops === null || !look) {
      this.text += piece;
      return null;
    }
    const { text, stopped } = this.stops.push(piece);
    this.text += text;
    if (stopped !== null) this.ended = true;
    return stopped;
  }

  private end(): string | null {
    const stop = this.add(this.decoder.end(), this.decoded > this.minTokens);
    this.ended = true;
    if (stop === null) this.text += this.stops?.end() ?? '';
    return stop;
  }
}
