// The arithmetic of the fake model: the next token, the logits and the log-probabilities of a context, without an engine.

import type { ModelConfig } from '../../lib/model/config.ts';
import { nothingAllowed, type SamplerState } from '../../lib/native/binding.ts';
import { greedy } from '../../lib/sampling/options.ts';

export function fakeConfig(vocabSize: number, eosTokenIds: number[]): ModelConfig {
  return {
    modelType: 'llama_swiftkv',
    vocabSize,
    hiddenSize: 64,
    intermediateSize: 128,
    numLayers: 6,
    numHeads: 4,
    numKvHeads: 2,
    headDim: 16,
    rmsNormEps: 1e-5,
    rope: { theta: 10000, scaling: null },
    bias: { q: false, k: false, v: false, o: false, mlp: false },
    qkNorm: false,
    tieWordEmbeddings: false,
    maxPositions: 4096,
    bosTokenId: null,
    eosTokenIds,
    numKvLayers: 2,
    groupSize: 2,
    base: null,
  };
}

export const maxTopLogprobs = 20;

export const initialHash = 0x811c9dc5;

export function mix(hash: number, value: number): number {
  let h = Math.imul(hash ^ value, 0x01000193);
  h ^= h >>> 15;
  return Math.imul(h, 0x85ebca6b) >>> 0;
}

function hashContext(tokens: ArrayLike<number>): number {
  let hash = initialHash;
  for (let i = 0; i < tokens.length; i++) hash = mix(hash, tokens[i]! + 1);
  return hash;
}

/** Which tokens a sampler and a mask allow; penalties and finite biases change nothing here. */
function allows(sampler: SamplerState, mask: Uint32Array | null, outputPosition: number, id: number): boolean {
  if (mask !== null && ((mask[id >>> 5]! >>> (id & 31)) & 1) === 0) return false;
  if (outputPosition < sampler.minTokens && sampler.endIds.includes(id)) return false;
  const bias = sampler.biasIds.indexOf(id);
  return bias < 0 || sampler.biases[bias] !== Number.NEGATIVE_INFINITY;
}

/** The token that the context and the sampler give, or the next higher one that is allowed; nothingAllowed if none is. */
export function nextToken(
  hash: number,
  sampler: SamplerState,
  outputPosition: number,
  vocabSize: number,
  mask: Uint32Array | null = null,
): number {
  const key = Number(sampler.seed & 0x7fffffffn) + 1_000_003 * sampler.choice;
  const random = sampler.temperature === 0 ? hash : mix(mix(hash, key), outputPosition + 7);
  for (let i = 0; i < vocabSize; i++) {
    const id = (random + i) % vocabSize;
    if (allows(sampler, mask, outputPosition, id)) return id;
  }
  return nothingAllowed;
}

/** What the fake answers to a prompt, computed without any engine. */
export function fakeAnswer(
  prompt: ArrayLike<number>,
  options: {
    maxTokens: number;
    vocabSize: number;
    stopIds?: ReadonlySet<number>;
    sampler?: SamplerState;
    mask?: Uint32Array;
  },
): number[] {
  const sampler = options.sampler ?? greedy;
  const answer: number[] = [];
  let hash = hashContext(prompt);
  while (answer.length < options.maxTokens) {
    const id = nextToken(hash, sampler, answer.length, options.vocabSize, options.mask);
    answer.push(id);
    if (options.stopIds?.has(id)) break;
    hash = mix(hash, id + 1);
  }
  return answer;
}

/** Row `position` of the logits of a text: the greedy token stands out. */
export function fakeLogits(prompt: ArrayLike<number>, vocabSize: number): Float32Array {
  const data = new Float32Array(prompt.length * vocabSize);
  let hash = initialHash;
  for (let i = 0; i < prompt.length; i++) {
    hash = mix(hash, prompt[i]! + 1);
    writeLogits(data.subarray(i * vocabSize, (i + 1) * vocabSize), hash);
  }
  return data;
}

export function writeLogits(row: Float32Array, hash: number): void {
  for (let v = 0; v < row.length; v++) row[v] = mix(hash, v) / 2 ** 32;
  row[hash % row.length] = 2;
}

/** Of the row of logits: log-softmax in double, and the most likely tokens. */
export function fakeLogprobs(row: Float32Array, id: number, top: number) {
  const max = Math.max(...row);
  const norm = max + Math.log(row.reduce((sum, x) => sum + Math.exp(x - max), 0));
  const order = Array.from(row.keys()).sort((a, b) => row[b]! - row[a]! || a - b);
  return {
    logprob: Math.fround(row[id]! - norm),
    rank: row.filter((x) => x > row[id]!).length + 1,
    top: order.slice(0, top).map((tokenId) => ({ tokenId, logprob: Math.fround(row[tokenId]! - norm) })),
  };
}
