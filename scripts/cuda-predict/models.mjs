// The shapes of the models, and the variants of where keys and values come from.

export const models = {
  'Llama-3.1-8B': { dim: 4096, layers: 32, heads: 32, kvHeads: 8, headDim: 128, ff: 14336, vocab: 128256 },
  'Llama-3.1-70B': { dim: 8192, layers: 80, heads: 64, kvHeads: 8, headDim: 128, ff: 28672, vocab: 128256 },
};

/** kvLayers: share of the layers that make keys and values themselves; group: later layers that share a cache. */
export const variants = {
  plain: { kvLayers: 1, group: 1, cache: 'bf16' },
  'SwiftKV 50%': { kvLayers: 0.5, group: 1, cache: 'bf16' },
  'SwiftKV 50%, 4-way AcrossKV, fp8 cache': { kvLayers: 0.5, group: 4, cache: 'fp8_e4m3' },
};

/** Layers of each half, and caches of both. */
export function halves(model, variant) {
  const early = Math.round(model.layers * variant.kvLayers);
  const late = model.layers - early;
  return { early, late, groups: late / variant.group, caches: early + late / variant.group };
}

/** Bytes of a token in one cache; fp8 has a scale per token and head for keys and one for values. */
export function cacheTokenBytes(model, cache) {
  return model.kvHeads * 2 * (cache === 'bf16' ? model.headDim * 2 : model.headDim + 4);
}

export function weightBytes(model, variant) {
  const { dim, heads, kvHeads, headDim, ff, vocab } = model;
  const { early, late, groups } = halves(model, variant);
  const kv = 2 * kvHeads * headDim * dim;
  const layer = 2 * heads * headDim * dim + 3 * ff * dim; // q and o, gate, up and down
  return 2 * (model.layers * layer + (early + (late > 0 ? groups : 0)) * kv + 2 * vocab * dim);
}

/** Of all sequences, with `tokens` each. */
export function cacheBytes(model, variant, sequences, tokens) {
  return halves(model, variant).caches * cacheTokenBytes(model, variant.cache) * sequences * tokens;
}
