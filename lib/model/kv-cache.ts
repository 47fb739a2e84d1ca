// The KV cache as numbers: which caches exist, their scales, and what a token costs. Memory is native.

import { readRange } from '../checkpoint/files.ts';
import { quote } from '../checkpoint/json.ts';
import type { CheckpointTensor } from '../checkpoint/safetensors.ts';
import { SwiftKVError } from '../errors.ts';
import type { CacheSpec } from '../native/binding.ts';
import { cacheOfLayer, type ModelConfig, numDistinctCaches } from './config.ts';

export type KvCacheDType = 'f32' | 'bf16' | 'fp8';

/** Tokens in one block of the paged cache. */
export const blockTokens = 16;

/** Scales of one cache from a checkpoint, per head. value = code * scale. */
export interface StaticScales {
  k: Float32Array;
  v: Float32Array;
}

const elementBytes = { f32: 4, bf16: 2, fp8: 1 } as const;

/** One spec for each distinct cache. `scales`: by cache, null where a checkpoint has none; only fp8 uses them. */
export function cacheSpecs(
  config: ModelConfig,
  dtype: KvCacheDType,
  scales: readonly (StaticScales | null)[] = [],
): CacheSpec[] {
  const { numKvHeads, headDim } = config;
  return Array.from({ length: numDistinctCaches(config) }, (_, i): CacheSpec => {
    if (dtype !== 'fp8') return { numKvHeads, headDim, dtype, scales: 'none' };
    const fixed = scales[i] ?? null;
    if (fixed === null) return { numKvHeads, headDim, dtype: 'fp8_e4m3', scales: 'dynamic' };
    return { numKvHeads, headDim, dtype: 'fp8_e4m3', scales: 'per_head', kScale: fixed.k, vScale: fixed.v };
  });
}

/** K and V of one token over all caches, dynamic scales (one f32 per token, head and side) included. */
export function kvBytesPerToken(specs: readonly CacheSpec[]): number {
  return specs.reduce((sum, spec) => {
    const element = elementBytes[spec.dtype === 'fp8_e4m3' ? 'fp8' : spec.dtype];
    const scale = spec.scales === 'dynamic' ? 4 : 0;
    return sum + 2 * spec.numKvHeads * (spec.headDim * element + scale);
  }, 0);
}

/** Names that writers of checkpoints give to the scales of a layer's cache, first match wins. */
function scaleNames(layer: number, side: 'k' | 'v', isLater: boolean): string[] {
  const attn = `model.layers.${layer}.self_attn`;
  // On a later layer, scales under a teacher projection's name belong to the teacher's keys and values.
  const projection = isLater ? `${side}_proj_swiftkv` : `${side}_proj`;
  return [
    `${attn}.${side}_scale`,
    `${attn}.${projection}.output_scale`,
    `${attn}.${projection}.${side}_scale`,
    `${attn}.kv_scale`,
  ];
}

/**
 * Static scales of every cache, read from the checkpoint: those of the layer that writes the cache (followers read their
 * leader's cache, so their own scales, if any, mean nothing). null for a cache that has none.
 * @throws ERR_MODEL_INVALID: one side only, another shape than one or [numKvHeads], not finite or not positive
 */
export async function readStaticScales(
  config: ModelConfig,
  tensors: ReadonlyMap<string, CheckpointTensor>,
): Promise<(StaticScales | null)[]> {
  const scales: (StaticScales | null)[] = [];
  for (let l = 0; l < config.numLayers; l++) {
    if (cacheOfLayer(config, l) !== scales.length) continue;
    const isLater = l >= config.numKvLayers;
    const k = await readScale(scaleNames(l, 'k', isLater), config.numKvHeads, tensors);
    const v = await readScale(scaleNames(l, 'v', isLater), config.numKvHeads, tensors);
    if ((k === null) !== (v === null)) {
      const [has, lacks] = k === null ? ['v', 'k'] : ['k', 'v'];
      throw new SwiftKVError(
        'ERR_MODEL_INVALID',
        `The checkpoint's layer ${l}: expected static cache scales for both k and v or for neither but received one for ` +
          `${has} and none for ${lacks}; use kvCacheDtype bf16, or give both`,
      );
    }
    scales.push(k && v && { k, v });
  }
  return scales;
}

async function readScale(
  names: readonly string[],
  numKvHeads: number,
  tensors: ReadonlyMap<string, CheckpointTensor>,
): Promise<Float32Array | null> {
  const name = names.find((candidate) => tensors.has(candidate));
  if (name === undefined) return null;
  const tensor = tensors.get(name)!;
  const refuse = (expected: string, received: unknown): never => {
    throw new SwiftKVError(
      'ERR_MODEL_INVALID',
      `${tensor.path}: tensor ${name}: expected ${expected} but received ${quote(received)}`,
    );
  };
  // [], [1], [Hk] and [Hk, 1, 1] are all in use.
  const count = tensor.shape.reduce((product, n) => product * n, 1);
  if (count !== 1 && count !== numKvHeads) {
    return refuse(`one scale or one for each of ${numKvHeads} heads`, tensor.shape);
  }
  const decode = scaleDecoders[tensor.dtype];
  if (decode === undefined) return refuse(`one of the dtypes ${Object.keys(scaleDecoders).join(', ')}`, tensor.dtype);
  const values = decode(await readRange(tensor.path, tensor.offset, tensor.byteLength));
  if (!values.every((value) => Number.isFinite(value) && value > 0)) {
    return refuse('finite scales above 0', [...values]);
  }
  return count === 1 ? new Float32Array(numKvHeads).fill(values[0]!) : values;
}

const scaleDecoders: Readonly<Record<string, (bytes: Uint8Array) => Float32Array>> = {
  F32: (bytes) => new Float32Array(bytes.slice().buffer),
  BF16: (bytes) => {
    const halves = new Uint16Array(bytes.slice().buffer);
    return new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer);
  },
  F16: (bytes) => {
    const halves = new Uint16Array(bytes.slice().buffer);
    return Float32Array.from(halves, decodeF16);
  },
};

function decodeF16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}
