// The samplers of running sequences: they live natively and ops refer to them by slot.

import { SwiftKVError, toSwiftKVError } from '../errors.ts';
import type { NativeSamplerTable } from '../native/binding.ts';
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
}

export class SamplerTable {
  readonly device: Device;
  /** @internal */
  readonly native: NativeSamplerTable;
  #disposed = false;

  /** A table of `capacity` greedy samplers. */
  constructor(device: Device, capacity: number) {
    if (!Number.isSafeInteger(capacity) || capacity < 1) {
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        `Expected an integer >= 1 for capacity but received ${String(capacity)}`,
      );
    }
    this.device = device;
    try {
      this.native = device.binding.samplerTable(device.native, capacity);
    } catch (error) {
      throw toSwiftKVError(error);
    }
    for (let slot = 0; slot < capacity; slot++) this.set(slot, {});
  }

  get capacity(): number {
    return this.native.capacity;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** Replaces the sampler of a slot; not while an op that reads the slot is in flight. */
  set(slot: number, options: SamplerOptions): void {
    const { temperature = 0, topK = 0, topP = 1, minP = 0, seed = 0, choice = 0 } = options;
    if (!Number.isInteger(slot) || slot < 0 || slot >= this.capacity) {
      throw new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected 0..${this.capacity - 1} for slot but received ${slot}`);
    }
    const limits: [string, number, boolean, string][] = [
      ['temperature', temperature, temperature >= 0 && Number.isFinite(temperature), 'a finite number >= 0'],
      ['topK', topK, Number.isInteger(topK) && topK >= 0, 'an integer >= 0'],
      ['topP', topP, topP > 0 && topP <= 1, 'a number above 0 and at most 1'],
      ['minP', minP, minP >= 0 && minP <= 1, 'a number from 0 to 1'],
      ['choice', choice, Number.isInteger(choice) && choice >= 0, 'an integer >= 0'],
      ['seed', Number(seed), typeof seed === 'bigint' || Number.isSafeInteger(seed), 'a bigint or a safe integer'],
    ];
    const wrong = limits.find(([, , ok]) => !ok);
    if (wrong) {
      throw new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected ${wrong[3]} for ${wrong[0]} but received ${wrong[1]}`);
    }
    try {
      this.native.set(slot, { temperature, topK, topP, minP, seed: BigInt.asUintN(64, BigInt(seed)), choice });
    } catch (error) {
      throw toSwiftKVError(error);
    }
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
