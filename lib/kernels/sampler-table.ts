// The samplers of running sequences: they live natively and ops refer to them by slot.

import { SwiftKVError, toSwiftKVError } from '../errors.ts';
import type { NativeSamplerTable, SamplerState } from '../native/binding.ts';
import type { Device } from './device.ts';

export interface SamplerOptions {
  /** 0 (the default) is greedy: the most likely token, the lowest id among equals. */
  temperature?: number;
  /** Only the k most likely tokens; 0 (the default) is off. */
  topK?: number;
  /** Only the most likely tokens that together reach this probability; 1 (the default) is off. */
  topP?: number;
  /** Only tokens at least this share of the most likely one's probability; 0 (the default) is off. */
  minP?: number;
  /** The random number of a token is a function of seed, choice and its position in the output; 0 by default. */
  seed?: bigint | number;
  /** Index of the choice when one prompt has several answers; 0 by default. */
  choice?: number;
  /**
   * Tokens of the prompt or the outputs: a positive logit is divided by this, another multiplied. Above 0; 1 (the
   * default) is off.
   */
  repetitionPenalty?: number;
  /** Subtracted from the logit of every token among the outputs; 0 (the default) is off. */
  presencePenalty?: number;
  /** Subtracted from the logit of a token among the outputs, times how often it is there; 0 (the default) is off. */
  frequencyPenalty?: number;
  /** Token id -> what is added to its logit: finite, or `-Infinity` to forbid the token. */
  logitBias?: ReadonlyMap<number, number>;
  /** No token of `endIds` at an output position below this; 0 (the default) is off. */
  minTokens?: number;
  /** Tokens that end an answer, for `minTokens`. */
  endIds?: ArrayLike<number>;
  /** Tokens of the prompt, for `repetitionPenalty`. */
  promptIds?: ArrayLike<number>;
  /** Tokens of the answer so far, for the penalties; `sample` adds each token that it draws for the slot. */
  outputIds?: ArrayLike<number>;
}

/** A number that is finite as f32 too. */
const isFloat = (value: number): boolean => Number.isFinite(Math.fround(value));

export class SamplerTable {
  readonly device: Device;
  /** Tokens of the logits that the samplers are for. */
  readonly vocabSize: number;
  /** @internal */
  readonly native: NativeSamplerTable;
  #disposed = false;

  /** A table of `capacity` greedy samplers for logits [rows, vocabSize]. */
  constructor(device: Device, capacity: number, vocabSize: number) {
    for (const [name, value] of Object.entries({ capacity, vocabSize })) {
      if (Number.isSafeInteger(value) && value >= 1) continue;
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        `Expected an integer >= 1 for ${name} but received ${String(value)}`,
      );
    }
    this.device = device;
    this.vocabSize = vocabSize;
    try {
      this.native = device.binding.samplerTable(device.native, capacity, vocabSize);
    } catch (error) {
      throw toSwiftKVError(error);
    }
  }

  get capacity(): number {
    return this.native.capacity;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /**
   * Replaces the sampler of a slot, and forgets what it had counted; not while an op that reads the slot is in flight.
   * `sample` adjusts a row in this order: bitmask, bias, ending tokens, repetition penalty, frequency and presence
   * penalty; then temperature, topK, topP, minP. Greedy takes the best of the adjusted row.
   * Throws `ERR_INVALID_ARGUMENT` for a slot, a value or a token id out of range, `ERR_OUT_OF_MEMORY`, `ERR_DISPOSED`.
   */
  set(slot: number, options: SamplerOptions): void {
    const { temperature = 0, topK = 0, topP = 1, minP = 0, seed = 0, choice = 0 } = options;
    const { repetitionPenalty = 1, presencePenalty = 0, frequencyPenalty = 0, minTokens = 0 } = options;
    if (!Number.isInteger(slot) || slot < 0 || slot >= this.capacity) {
      throw new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected 0..${this.capacity - 1} for slot but received ${slot}`);
    }
    const isCount = (value: number) => Number.isInteger(value) && value >= 0 && value < 2 ** 31;
    const limits: [string, number, boolean, string][] = [
      ['temperature', temperature, temperature >= 0 && isFloat(temperature), 'a finite number >= 0'],
      ['topK', topK, isCount(topK), 'an integer >= 0'],
      ['topP', topP, topP > 0 && topP <= 1, 'a number above 0 and at most 1'],
      ['minP', minP, minP >= 0 && minP <= 1, 'a number from 0 to 1'],
      ['choice', choice, isCount(choice), 'an integer >= 0'],
      ['seed', Number(seed), typeof seed === 'bigint' || Number.isSafeInteger(seed), 'a bigint or a safe integer'],
      ['repetitionPenalty', repetitionPenalty, isFloat(repetitionPenalty) && repetitionPenalty > 0, 'a number above 0'],
      ['presencePenalty', presencePenalty, isFloat(presencePenalty), 'a finite number'],
      ['frequencyPenalty', frequencyPenalty, isFloat(frequencyPenalty), 'a finite number'],
      ['minTokens', minTokens, isCount(minTokens), 'an integer >= 0'],
    ];
    const wrong = limits.find(([, , ok]) => !ok);
    if (wrong) {
      throw new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected ${wrong[3]} for ${wrong[0]} but received ${wrong[1]}`);
    }
    const biases = [...(options.logitBias?.values() ?? [])];
    const badBias = biases.find((bias) => !isFloat(bias) && bias !== Number.NEGATIVE_INFINITY);
    if (badBias !== undefined) {
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        `Expected finite numbers or -Infinity for logitBias but received ${String(badBias)}`,
      );
    }
    const state: SamplerState = {
      temperature,
      topK,
      topP,
      minP,
      seed: BigInt.asUintN(64, BigInt(seed)),
      choice,
      repetitionPenalty,
      presencePenalty,
      frequencyPenalty,
      biasIds: this.#tokens('logitBias', [...(options.logitBias?.keys() ?? [])]),
      biases: Float32Array.from(biases),
      minTokens,
      endIds: this.#tokens('endIds', options.endIds),
    };
    const promptIds = this.#tokens('promptIds', options.promptIds);
    const outputIds = this.#tokens('outputIds', options.outputIds);
    try {
      this.native.set(slot, state, promptIds, outputIds);
    } catch (error) {
      throw toSwiftKVError(error);
    }
  }

  #tokens(name: string, ids: ArrayLike<number> = []): Int32Array {
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i]!;
      if (Number.isInteger(id) && id >= 0 && id < this.vocabSize) continue;
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        `Expected token ids from 0 to ${this.vocabSize - 1} for ${name} but received ${String(id)}`,
      );
    }
    return Int32Array.from(ids);
  }

  /** Frees the memory. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.native.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
