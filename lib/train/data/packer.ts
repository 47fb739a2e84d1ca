// Documents as an endless stream of batches for micro-steps. What comes is decided by the options, the seed and the
// documents alone, and the state is a small JSON value: a stream that was restored goes on as if it had not been stopped.

import { createHash } from 'node:crypto';
import { SwiftKVError } from '../../errors.ts';
import { stableOrder, stableUniform } from './random.ts';
import type { TokenDocuments } from './tokenize.ts';

/** Rows of some sequences, one after the other; attention never crosses from one into another. */
export interface PackedBatch {
  ids: Int32Array;
  /** [sequences + 1] first row of each, ascending from 0 to rows */
  starts: Int32Array;
  /** [rows] what predicting the next row's token counts; 0 in the last row of a sequence */
  weights: Float32Array;
  /** [rows] 1: the row's own token is of an answer, or of a plain text. The public recipe masks its loss by this. */
  masks: Uint8Array;
}

/** Documents, and how often they come. */
export interface DataSource extends Pick<TokenDocuments, 'ids' | 'answers' | 'starts' | 'hasAnswers'> {
  name: string;
  /** Share of all tokens, relative to the other sources. Default: the source's own tokens. */
  weight?: number | undefined;
}

export interface StreamOptions {
  /** Rows of a batch, at most. */
  tokensPerBatch: number;
  /** Sequences of a batch, at most. */
  maxSeqs: number;
  /** Tokens of a sequence, at most: longer texts are cut into windows, longer documents with answers left out. */
  maxLength: number;
  seed: number;
  /** What predicting a token of an answer counts, of the rest of such a document, and of a plain text. Default 1, 0, 1. */
  answerWeight?: number | undefined;
  contextWeight?: number | undefined;
  textWeight?: number | undefined;
}

type ResolvedOptions = { [K in keyof StreamOptions]-?: number };

/** `length` tokens of a document from `from` on. */
type Window = [document: number, from: number, length: number];

interface SourceState {
  epoch: number;
  /** Windows of this epoch that are drawn. */
  cursor: number;
  /** Tokens that have come from this source. */
  tokens: number;
  /** Drawn windows that did not fit the batch at hand and come first in the next. */
  held: Window[];
}

/** From where a stream goes on, as JSON. */
export interface DataState {
  /** Of the documents and options; a state belongs to one stream only. */
  fingerprint: string;
  sources: SourceState[];
}

/** Windows that wait for a batch with room, at most; more look-ahead fills batches better and stirs the order less. */
const maxHeld = 16;

export class DataStream {
  /** Documents with answers longer than maxLength: they never come. */
  readonly leftOut: number;
  /** Tokens of one epoch of each source. */
  readonly epochTokens: readonly number[];
  readonly #sources: readonly Source[];
  readonly #options: ResolvedOptions;
  readonly #fingerprint: string;

  /** @throws ERR_INVALID_ARGUMENT */
  constructor(sources: readonly DataSource[], options: StreamOptions) {
    this.#options = checkOptions(options);
    if (sources.length === 0)
      throw new SwiftKVError('ERR_INVALID_ARGUMENT', 'Expected training data but received none');
    this.#sources = sources.map((source, index) => new Source(source, index, this.#options));
    this.leftOut = this.#sources.reduce((sum, source) => sum + source.leftOut, 0);
    this.epochTokens = this.#sources.map(({ epochTokens }) => epochTokens);
    this.#fingerprint = fingerprintOf(sources, this.#options);
  }

  /** @throws ERR_INVALID_ARGUMENT where the state is not one of a stream of these documents and options */
  static restore(sources: readonly DataSource[], options: StreamOptions, state: DataState): DataStream {
    const stream = new DataStream(sources, options);
    stream.restore(state);
    return stream;
  }

  /** Goes to where a stream of the same documents and options was. @throws ERR_INVALID_ARGUMENT for a state of another */
  restore(state: DataState): void {
    if (state?.fingerprint !== this.#fingerprint || state.sources?.length !== this.#sources.length) {
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        'The training data or its options are not those of the run to go on with: give the same files in the same order, ' +
          'the same weights, lengths and seed, or begin a new run',
      );
    }
    for (const [i, source] of this.#sources.entries()) source.state = structuredClone(state.sources[i]!);
  }

  state(): DataState {
    return { fingerprint: this.#fingerprint, sources: this.#sources.map(({ state }) => structuredClone(state)) };
  }

  /** Epochs of each source so far, e.g. 1.25. */
  epochs(): number[] {
    return this.#sources.map(({ state, epochTokens }) => state.tokens / epochTokens);
  }

  next(): PackedBatch {
    const { tokensPerBatch, maxSeqs } = this.#options;
    const parts: { source: Source; window: Window }[] = [];
    let room = tokensPerBatch;
    while (parts.length < maxSeqs && room >= minLength) {
      // The source that is furthest behind its share; where nothing of it fits, the next.
      const order = this.#sources.toSorted((a, b) => a.progress - b.progress || a.index - b.index);
      let drawn: { source: Source; window: Window } | null = null;
      for (const source of order) {
        const window = source.draw(room);
        if (window === null) continue;
        drawn = { source, window };
        break;
      }
      if (drawn === null) break;
      parts.push(drawn);
      room -= drawn.window[2];
    }
    return this.#pack(parts);
  }

  #pack(parts: readonly { source: Source; window: Window }[]): PackedBatch {
    const { answerWeight, contextWeight, textWeight } = this.#options;
    const rows = parts.reduce((sum, { window }) => sum + window[2], 0);
    const batch = {
      ids: new Int32Array(rows),
      starts: new Int32Array(parts.length + 1),
      weights: new Float32Array(rows),
      masks: new Uint8Array(rows),
    };
    let row = 0;
    for (const [i, { source, window }] of parts.entries()) {
      const [document, from, length] = window;
      const { ids, answers, starts, hasAnswers } = source.data;
      const first = starts[document]! + from;
      const isText = hasAnswers[document] === 0;
      batch.ids.set(ids.subarray(first, first + length), row);
      for (let t = 0; t < length; t++) {
        batch.masks[row + t] = isText ? 1 : answers[first + t]!;
        if (t === 0) continue;
        batch.weights[row + t - 1] = isText ? textWeight : answers[first + t] === 1 ? answerWeight : contextWeight;
      }
      row += length;
      batch.starts[i + 1] = row;
    }
    return batch;
  }
}

/** A token alone predicts nothing. */
const minLength = 2;

/** One source's windows, in a new order each epoch. */
class Source {
  readonly data: DataSource;
  readonly index: number;
  readonly leftOut: number;
  readonly epochTokens: number;
  state: SourceState = { epoch: 0, cursor: 0, tokens: 0, held: [] };
  readonly #options: ResolvedOptions;
  readonly #share: number;
  #order: { epoch: number; windows: Window[] } | null = null;

  constructor(data: DataSource, index: number, options: ResolvedOptions) {
    this.data = data;
    this.index = index;
    this.#options = options;
    const { starts, hasAnswers } = data;
    let [tokens, leftOut] = [0, 0];
    for (let i = 0; i + 1 < starts.length; i++) {
      const length = starts[i + 1]! - starts[i]!;
      if (hasAnswers[i] === 1 && length > options.maxLength) leftOut++;
      else if (length >= minLength) tokens += length;
    }
    const share = data.weight ?? tokens;
    if (tokens === 0 || !(share > 0 && Number.isFinite(share))) {
      const fault = tokens === 0 ? `no document of 2 to ${options.maxLength} tokens` : `the weight ${share}`;
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        `${data.name}: expected documents that fit maxLength and a weight above 0, but it has ${fault}`,
      );
    }
    this.epochTokens = tokens;
    this.leftOut = leftOut;
    this.#share = share;
  }

  /** How far this source is, in units that are equal where all sources have their shares. */
  get progress(): number {
    return this.state.tokens / this.#share;
  }

  /** The next window of at most `room` tokens, or null where those at hand are longer. */
  draw(room: number): Window | null {
    const { state } = this;
    const waiting = state.held.findIndex(([, , length]) => length <= room);
    let window = waiting === -1 ? null : state.held.splice(waiting, 1)[0]!;
    while (window === null && state.held.length < maxHeld) {
      const drawn = this.#following();
      if (drawn[2] <= room) window = drawn;
      else state.held.push(drawn);
    }
    if (window !== null) state.tokens += window[2];
    return window;
  }

  #following(): Window {
    const { state } = this;
    if (this.#order?.epoch !== state.epoch) this.#order = { epoch: state.epoch, windows: this.#windows(state.epoch) };
    const window = this.#order.windows[state.cursor]!;
    if (++state.cursor === this.#order.windows.length) {
      state.epoch++;
      state.cursor = 0;
    }
    return window;
  }

  /**
   * A text's windows overlap by a token, so that every token but the first is predicted once an epoch. The first has
   * another length each epoch: no two tokens are always parted.
   */
  #windows(epoch: number): Window[] {
    const { maxLength, seed } = this.#options;
    const { starts, hasAnswers } = this.data;
    const windows: Window[] = [];
    for (let document = 0; document + 1 < starts.length; document++) {
      const total = starts[document + 1]! - starts[document]!;
      if (total < minLength || (hasAnswers[document] === 1 && total > maxLength)) continue;
      if (total <= maxLength) {
        windows.push([document, 0, total]);
        continue;
      }
      const least = Math.max(minLength, Math.ceil(maxLength / 2));
      const drawn = stableUniform(seed, this.index, epoch, document);
      let length = least + Math.floor(drawn * (maxLength - least + 1));
      for (let from = 0; from + 1 < total; from += length - 1, length = maxLength) {
        length = Math.min(length, total - from);
        windows.push([document, from, length]);
        if (from + length === total) break;
      }
    }
    return stableOrder(windows.length, seed, this.index, epoch).map((i) => windows[i]!);
  }
}

function checkOptions(options: StreamOptions): ResolvedOptions {
  const { tokensPerBatch, maxSeqs, maxLength, seed, answerWeight = 1, contextWeight = 0, textWeight = 1 } = options;
  const weights = { answerWeight, contextWeight, textWeight };
  const refuse = (expected: string, received: unknown): never => {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected ${expected} but received ${received}`);
  };
  for (const [name, value, least] of [
    ['maxLength', maxLength, minLength],
    ['maxSeqs', maxSeqs, 1],
    ['tokensPerBatch', tokensPerBatch, maxLength],
  ] as const) {
    if (!Number.isSafeInteger(value) || value < least) refuse(`an integer of at least ${least} for ${name}`, value);
  }
  if (!Number.isSafeInteger(seed)) refuse('an integer for seed', seed);
  for (const [name, value] of Object.entries(weights)) {
    if (!(value >= 0 && Number.isFinite(value))) refuse(`a number of at least 0 for ${name}`, value);
  }
  return { tokensPerBatch, maxSeqs, maxLength, seed, ...weights };
}

function fingerprintOf(sources: readonly DataSource[], options: ResolvedOptions): string {
  const hash = createHash('sha256');
  const { tokensPerBatch, maxSeqs, maxLength, seed } = options;
  // Weights of losses may change within a run: they do not decide what comes.
  hash.update(JSON.stringify({ tokensPerBatch, maxSeqs, maxLength, seed }));
  for (const { ids, answers, starts, hasAnswers, weight } of sources) {
    hash.update(`${ids.length} ${starts.length} ${weight ?? ''}\n`);
    for (const array of [ids, answers, starts, hasAnswers]) {
      hash.update(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
    }
  }
  return hash.digest('hex');
}
