// Models of real shapes with random weights, made in memory: for measurements where no checkpoint is at hand.

import { setImmediate } from 'node:timers/promises';
import { SwiftKVError } from '../errors.ts';
import { abortError } from './abort.ts';
import type { ModelConfig } from './config.ts';
import type { Weights } from './load-weights.ts';
import type { WeightTarget } from './weights.ts';

export const randomPrefix = 'random:';

const llama3Rope = (factor: number): ModelConfig['rope'] => ({
  theta: 500_000,
  scaling: { type: 'llama3', factor, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 8192 },
});

type Shape = Pick<
  ModelConfig,
  | 'vocabSize'
  | 'hiddenSize'
  | 'intermediateSize'
  | 'numLayers'
  | 'numHeads'
  | 'numKvHeads'
  | 'headDim'
  | 'rope'
  | 'tieWordEmbeddings'
  | 'maxPositions'
>;

/**
 * By name: published shapes; Llama-3.2-1B at half its width with a smaller vocabulary, which is large enough that kernels
 * take nearly all time and small enough that a load of requests takes seconds; the shape of the embedded base.
 */
export const randomShapes: Readonly<Record<string, Shape>> = {
  'llama-3.2-1b': {
    vocabSize: 128_256,
    hiddenSize: 2048,
    intermediateSize: 8192,
    numLayers: 16,
    numHeads: 32,
    numKvHeads: 8,
    headDim: 64,
    rope: llama3Rope(32),
    tieWordEmbeddings: true,
    maxPositions: 131_072,
  },
  'llama-3.1-8b': {
    vocabSize: 128_256,
    hiddenSize: 4096,
    intermediateSize: 14_336,
    numLayers: 32,
    numHeads: 32,
    numKvHeads: 8,
    headDim: 128,
    rope: llama3Rope(8),
    tieWordEmbeddings: false,
    maxPositions: 131_072,
  },
  'llama-276m': {
    vocabSize: 32_000,
    hiddenSize: 1024,
    intermediateSize: 4096,
    numLayers: 16,
    numHeads: 16,
    numKvHeads: 4,
    headDim: 64,
    rope: llama3Rope(32),
    tieWordEmbeddings: true,
    maxPositions: 131_072,
  },
  embedded: {
    vocabSize: 4096,
    hiddenSize: 256,
    intermediateSize: 704,
    numLayers: 8,
    numHeads: 8,
    numKvHeads: 4,
    headDim: 32,
    rope: { theta: 10_000, scaling: null },
    tieWordEmbeddings: true,
    maxPositions: 2048,
  },
};

export interface RandomModel {
  config: ModelConfig;
  seed: number;
}

/**
 * `random:NAME?kv-layers=50%&group=4&seed=1`. Without kv-layers it is a plain Llama; a percentage is of all layers.
 * It never ends an answer by itself: no token is an end of sequence.
 * @throws ERR_INVALID_ARGUMENT
 */
export function parseRandomModel(source: string): RandomModel {
  const refuse = (expected: string, received: unknown): never => {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', `${source}: expected ${expected} but received ${received}`);
  };
  const [name, query = ''] = source.slice(randomPrefix.length).split('?', 2) as [string, string?];
  const names = Object.keys(randomShapes);
  if (!names.includes(name)) refuse(`one of ${names.map((known) => randomPrefix + known).join(', ')}`, source);
  const shape = randomShapes[name]!;
  const options = new URLSearchParams(query);
  for (const key of options.keys()) {
    if (!['kv-layers', 'group', 'seed'].includes(key)) refuse('only kv-layers, group and seed after "?"', key);
  }
  const integer = (key: string, fallback: number, min: number, max: number): number => {
    const text = options.get(key);
    const value = text === null ? fallback : Number(text);
    return Number.isInteger(value) && value >= min && value <= max && text !== ''
      ? value
      : refuse(`an integer from ${min} to ${max} for ${key}`, text);
  };
  const kvLayers = options.get('kv-layers');
  const percent = /^(\d+(?:\.\d+)?)%$/.exec(kvLayers ?? '');
  const numKvLayers = percent
    ? Math.round((shape.numLayers * Number(percent[1])) / 100)
    : integer('kv-layers', shape.numLayers, 1, shape.numLayers);
  if (numKvLayers < 1 || numKvLayers > shape.numLayers) refuse('1 to 100 % that is at least one layer', kvLayers);
  const groupSize = integer('group', 1, 1, shape.numLayers);
  if ((shape.numLayers - numKvLayers) % groupSize !== 0) {
    refuse(`a divisor of ${shape.numLayers - numKvLayers}, the layers without their own K and V, for group`, groupSize);
  }
  const config: ModelConfig = {
    ...shape,
    modelType: kvLayers === null ? 'llama' : 'llama_swiftkv',
    rmsNormEps: 1e-5,
    bias: { q: false, k: false, v: false, o: false, mlp: false },
    qkNorm: false,
    bosTokenId: null,
    eosTokenIds: [],
    numKvLayers,
    groupSize,
    base: null,
  };
  return { config, seed: integer('seed', 1, 0, 2 ** 31 - 1) };
}

/** What a random matrix is filled with: uniform values in [-scale, scale) that depend on the seed and the place alone. */
export interface RandomMatrix {
  target: WeightTarget;
  seed: number;
  scale: number;
}

/**
 * The matrices and tables among `targets`, in their order. Variance is 1 / k, which keeps the scale of what they
 * multiply; what is added to the residual stream is smaller by sqrt(2 L), so that the stream stays near its start over
 * any depth.
 */
export function* randomMatrices(
  targets: Iterable<WeightTarget>,
  { config, seed }: RandomModel,
): Generator<RandomMatrix> {
  const residual = 1 / Math.sqrt(2 * config.numLayers);
  let next = seed;
  for (const target of targets) {
    if (target.kind === 'vector' || target.kind === 'vectors') continue;
    const gain = target.key.endsWith('.o') || target.key.endsWith('.down') ? residual : 1;
    yield { target, seed: next++, scale: gain * Math.sqrt(3 / target.k) };
  }
}

/** Norms are ones; for the others see `randomMatrices`. */
export async function fillRandom(
  targets: Iterable<WeightTarget>,
  model: RandomModel,
  weights: Weights,
  options: { signal?: AbortSignal | undefined; onProgress?: ((doneBytes: number) => void) | undefined },
): Promise<void> {
  const all = [...targets];
  const matrices = new Map(Array.from(randomMatrices(all, model), (matrix) => [matrix.target.key, matrix]));
  let done = 0;
  for (const { key, rows, k } of all) {
    if (options.signal?.aborted) throw abortError(options.signal);
    const tensor = weights.get(key)!;
    const matrix = matrices.get(key);
    if (matrix === undefined) tensor.writeFloats(new Float32Array(rows * k).fill(1));
    else await tensor.fillRandom(matrix.seed, matrix.scale);
    done += tensor.byteLength;
    options.onProgress?.(done);
    await setImmediate();
  }
}
