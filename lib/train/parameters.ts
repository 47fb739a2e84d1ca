// What is trained: weights as the forward pass fuses them, one after the other in flat f32 arrays of parameters,
// gradients and moments. Matrices come first, since only they decay.

import type { ModelConfig } from '../model/config.ts';
import { decoderWeights, type WeightKey, type WeightTarget } from '../model/weights.ts';

export interface TrainedWeight {
  key: WeightKey;
  kind: 'matrix' | 'table' | 'vector';
  shape: readonly number[];
  /** First element in the flat arrays. */
  offset: number;
  length: number;
  /** Checkpoint tensors that it is made of, rows one under the other. */
  parts: readonly { name: string; rows: number; shape: readonly number[]; offset: number; length: number }[];
}

export interface Parameters {
  trained: readonly TrainedWeight[];
  /** Elements of the matrices, which come first. */
  decayed: number;
  total: number;
}

/** SwiftKV's own tensors, which distillation trains. */
export function isSwiftKVWeight(config: ModelConfig, key: WeightKey): boolean {
  if (/^(norm|kv)_swiftkv/.test(key)) return true;
  const match = /^layers\.(\d+)\.q(_bias)?$/.exec(key);
  return match !== null && Number(match[1]) >= config.numKvLayers;
}

export function layOut(targets: Iterable<WeightTarget>, isTrained: (key: WeightKey) => boolean): Parameters {
  const chosen = [...targets].filter(({ key }) => isTrained(key));
  const ordered = [
    ...chosen.filter(({ kind }) => kind === 'matrix' || kind === 'table'),
    ...chosen.filter(({ kind }) => kind === 'vector'),
  ];
  const trained: TrainedWeight[] = [];
  let offset = 0;
  let decayed = 0;
  for (const { key, kind, rows, k, parts } of ordered) {
    let at = offset;
    const named = parts.flatMap(({ name, rows: own, shape }) => {
      const part = { name, rows: own, shape, offset: at, length: own * k };
      at += own * k;
      return name === null ? [] : [{ ...part, name }];
    });
    const length = rows * k;
    trained.push({
      key,
      kind: kind as TrainedWeight['kind'],
      shape: kind === 'vector' ? [rows] : [rows, k],
      offset,
      length,
      parts: named,
    });
    offset += length;
    if (kind !== 'vector') decayed = offset;
  }
  return { trained, decayed, total: offset };
}

/** The teacher's projections of later layers, which a student lacks, and the student's weights. */
export function* distillWeights(config: ModelConfig): Generator<WeightTarget> {
  yield* decoderWeights(config);
  const plain = { ...config, numKvLayers: config.numLayers, groupSize: 1 };
  for (const target of decoderWeights(plain)) {
    const match = /^layers\.(\d+)\.qkv(_bias)?$/.exec(target.key);
    if (match !== null && Number(match[1]) >= config.numKvLayers) yield target;
  }
}
