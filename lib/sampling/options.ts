// Checks the sampling options of a request and turns them into what a sampler slot holds.

import type { SamplingDefaults } from '../engine/types.ts';
import { checkInteger, checkNumber, expected } from '../engine/validate.ts';
import { SwiftKVError } from '../errors.ts';
import type { SamplerState } from '../native/binding.ts';

/** Temperatures below this are 0: dividing logits by them would only overflow. */
export const minTemperature = 1e-3;
const maxTemperature = 100;
/** Penalties and biases beyond these would only overflow. */
const maxRepetitionPenalty = 100;
const maxPenalty = 100;
const maxBias = 1000;
const maxSeed = 2n ** 64n - 1n;

export interface Sampling {
  state: SamplerState;
  /** As given, or as drawn. */
  seed: number | bigint;
}

const noIds = new Int32Array(0);

/** A sampler that changes no logit. */
const plain = {
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  biasIds: noIds,
  biases: new Float32Array(0),
  minTokens: 0,
  endIds: noIds,
};

/** Takes the most likely token. */
export const greedy: SamplerState = { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0n, choice: 0, ...plain };

/** What `resolveSampling` needs to know besides the options. */
export interface SamplingContext {
  defaults: SamplingDefaults;
  vocabSize: number;
  /** Tokens that end the answer. */
  stopIds: ReadonlySet<number>;
  where: string;
}

/** @throws ERR_INVALID_ARGUMENT */
export function resolveSampling(options: Record<string, unknown>, context: SamplingContext): Sampling {
  const { defaults, where } = context;
  const { temperature, topK, topP, minP, seed } = options;
  const chosen = {
    temperature:
      temperature === undefined
        ? defaults.temperature
        : checkNumber('temperature', temperature, where, { min: 0, max: maxTemperature }),
    topK: topK === undefined ? defaults.topK : Math.max(0, checkInteger('topK', topK, where, -1, 2 ** 31 - 1)),
    topP: topP === undefined ? defaults.topP : checkNumber('topP', topP, where, { min: 0, max: 1, aboveMin: true }),
    minP: minP === undefined ? defaults.minP : checkNumber('minP', minP, where, { min: 0, max: 1 }),
  };
  if (chosen.temperature < minTemperature) chosen.temperature = 0;
  const known = seed === undefined ? randomSeed() : checkSeed(seed, where);
  const state = { ...chosen, seed: BigInt(known), choice: 0, ...resolveAdjustments(options, context) };
  return { state, seed: known };
}

/** What is done to logits before a token is chosen. */
function resolveAdjustments(
  options: Record<string, unknown>,
  { defaults, vocabSize, stopIds, where }: SamplingContext,
) {
  const { repetitionPenalty, presencePenalty = 0, frequencyPenalty = 0, logitBias, minTokens = 0 } = options;
  const range = { min: -maxPenalty, max: maxPenalty };
  const least = checkInteger('minTokens', minTokens, where, 0);
  return {
    repetitionPenalty:
      repetitionPenalty === undefined
        ? defaults.repetitionPenalty
        : checkNumber('repetitionPenalty', repetitionPenalty, where, {
            min: 0,
            max: maxRepetitionPenalty,
            aboveMin: true,
          }),
    presencePenalty: checkNumber('presencePenalty', presencePenalty, where, range),
    frequencyPenalty: checkNumber('frequencyPenalty', frequencyPenalty, where, range),
    ...(logitBias === undefined
      ? { biasIds: plain.biasIds, biases: plain.biases }
      : biases(logitBias, vocabSize, where)),
    minTokens: least,
    endIds: least === 0 ? noIds : Int32Array.from(stopIds).sort(),
  };
}

function biases(value: unknown, vocabSize: number, where: string): { biasIds: Int32Array; biases: Float32Array } {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) {
    throw expected('logitBias', 'an object or Map from token ids to numbers', value, where);
  }
  const entries = [...(value instanceof Map ? value : Object.entries(value))].map(([key, bias]): [number, number] => {
    const id = typeof key === 'string' && /^\d+$/.test(key) ? Number(key) : key;
    checkInteger('a token id of logitBias', id, where, 0, vocabSize - 1);
    const allowed = bias === Number.NEGATIVE_INFINITY || (typeof bias === 'number' && Math.abs(bias) <= maxBias);
    if (!allowed) {
      throw expected(`logitBias[${id}]`, `a number from ${-maxBias} to ${maxBias}, or -Infinity`, bias, where);
    }
    return [id, bias];
  });
  // A Map may hold both 5 and '5'.
  const unique = [...new Map(entries)].sort((a, b) => a[0] - b[0]);
  return { biasIds: Int32Array.from(unique, ([id]) => id), biases: Float32Array.from(unique, ([, bias]) => bias) };
}

function checkSeed(seed: unknown, where: string): number | bigint {
  if (typeof seed === 'bigint') {
    if (seed >= 0n && seed <= maxSeed) return seed;
  } else if (typeof seed === 'number' && Number.isSafeInteger(seed) && seed >= 0) return seed;
  throw expected('seed', 'a safe integer >= 0 or a bigint from 0 to 2^64 - 1', seed, where);
}

/** 53 random bits: exact as a number, so that it can be logged, stored as JSON and given again. */
function randomSeed(): number {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  return (high! >>> 11) * 2 ** 32 + low!;
}

/**
 * Defaults from the contents of a generation_config.json, or null when there is none.
 * `do_sample: false` means greedy; otherwise what the file does not say is off, and the temperature is 1. A
 * repetition penalty holds either way.
 * @throws ERR_MODEL_INVALID
 */
export function samplingDefaults(json: Record<string, unknown> | null): SamplingDefaults {
  const off = { topK: 0, topP: 1, minP: 0 };
  if (json === null) return { temperature: 1, ...off, repetitionPenalty: 1, source: 'built-in' };
  const source = 'generation_config.json';
  const number = (key: string, otherwise: number, min: number, max: number): number => {
    const value = json[key] ?? otherwise;
    if (typeof value === 'number' && value >= min && value <= max) return value;
    throw new SwiftKVError(
      'ERR_MODEL_INVALID',
      `Expected ${key} to be a number from ${min} to ${max} but received ${JSON.stringify(value)} (generation_config.json)`,
    );
  };
  const repetitionPenalty = number('repetition_penalty', 1, Number.MIN_VALUE, maxRepetitionPenalty);
  if (json['do_sample'] === false) return { temperature: 0, ...off, repetitionPenalty, source };
  const topK = number('top_k', 0, -1, 2 ** 31 - 1);
  const topP = number('top_p', 1, 0, 1);
  const temperature = number('temperature', 1, 0, maxTemperature);
  return {
    temperature: temperature < minTemperature ? 0 : temperature,
    topK: Math.max(0, Math.trunc(topK)),
    topP: topP === 0 ? 1 : topP,
    minP: number('min_p', 0, 0, 1),
    repetitionPenalty,
    source,
  };
}
