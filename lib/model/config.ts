// A checkpoint's config.json, normalised: both spellings read, defaults filled in, contradictions refused.

export type RopeScaling =
  | { type: 'linear'; factor: number }
  | { type: 'llama3'; factor: number; lowFreqFactor: number; highFreqFactor: number; originalMaxPositions: number };

export interface ModelConfig {
  /** `model_type` as written, e.g. `llama_swiftkv`. */
  modelType: string;
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  numLayers: number;
  numHeads: number;
  numKvHeads: number;
  headDim: number;
  rmsNormEps: number;
  rope: { theta: number; scaling: RopeScaling | null };
  bias: { q: boolean; k: boolean; v: boolean; o: boolean; mlp: boolean };
  /** Each head of queries and keys goes through an RMS norm before it is rotated. */
  qkNorm: boolean;
  tieWordEmbeddings: boolean;
  maxPositions: number;
  bosTokenId: number | null;
  eosTokenIds: number[];
  /** n: layers with their own K and V from their own input; numLayers for a plain model. */
  numKvLayers: number;
  /** g: later layers that share one cache (AcrossKV); 1 = none. */
  groupSize: number;
  /** Folder of the base model that holds the tensors this one lacks, relative to the model's folder, or null. */
  base: string | null;
}

/** n + (L - n) / g: the KV caches that really exist. */
export function numDistinctCaches(c: Pick<ModelConfig, 'numLayers' | 'numKvLayers' | 'groupSize'>): number {
  return c.numKvLayers + (c.numLayers - c.numKvLayers) / c.groupSize;
}

/** The cache that layer `l` reads. */
export function cacheOfLayer(c: Pick<ModelConfig, 'numKvLayers' | 'groupSize'>, l: number): number {
  return l < c.numKvLayers ? l : c.numKvLayers + Math.floor((l - c.numKvLayers) / c.groupSize);
}
