// The tests of `bench latency`, and the work that each cannot avoid.

import { type ModelConfig, numDistinctCaches } from '../../model/config.ts';
import type { ModelInfo } from '../../model/model-info.ts';
import { decodeFlops, prefillFlops } from './flops.ts';

export interface LatencyTest {
  kind: 'prefill' | 'decode';
  /** Prompt tokens to read, or tokens to generate. */
  tokens: number;
  /** Tokens that are in the cache before. */
  depth: number;
}

/** Depth by depth: the prompts, then the answer. */
export function latencyTests(pp: readonly number[], tg: readonly number[], depths: readonly number[]): LatencyTest[] {
  return depths.flatMap((depth) => [
    ...pp.map((tokens): LatencyTest => ({ kind: 'prefill', tokens, depth })),
    ...tg.map((tokens): LatencyTest => ({ kind: 'decode', tokens, depth })),
  ]);
}

export function testName({ kind, tokens, depth }: LatencyTest): string {
  return `${kind === 'prefill' ? 'pp' : 'tg'}${tokens}${depth === 0 ? '' : ` @ d${depth}`}`;
}

/** Positions that a test takes. A decode test reads one token first, and the last token has no place of its own. */
export function positionsOf({ kind, tokens, depth }: LatencyTest): number {
  return kind === 'prefill' ? depth + tokens + 1 : depth + 1 + tokens + 1;
}

/** Of the whole prompt, or of the middle one of the generated tokens. */
export function testFlops(c: ModelConfig, { kind, tokens, depth }: LatencyTest): number {
  return kind === 'prefill' ? prefillFlops(c, tokens, depth) : decodeFlops(c, depth + Math.ceil(tokens / 2));
}

/**
 * Bytes that the middle one of the generated tokens reads: every weight once (of a table of embeddings of its own only
 * a row), and the cache of each layer, also where layers share one.
 */
export function decodeBytes(info: ModelInfo, { tokens, depth }: LatencyTest): number {
  const { config: c } = info;
  const embedBytes = c.tieWordEmbeddings ? 0 : c.vocabSize * c.hiddenSize * (info.dtype === 'bf16' ? 2 : 4);
  const layerTokenBytes = info.kvBytesPerToken / numDistinctCaches(c);
  return info.bytes.weights - embedBytes + (depth + Math.ceil(tokens / 2)) * layerTokenBytes * c.numLayers;
}

/** Whole blocks of tokens that fit. */
export function tokensThatFit(info: Pick<ModelInfo, 'kvBytesPerToken' | 'blockTokens'>, bytes: number): number {
  return Math.floor(bytes / (info.kvBytesPerToken * info.blockTokens)) * info.blockTokens;
}
