// node-llama-cpp as one side of a comparison: its prebuilt CPU binary, ids in, ids out.

import { GgmlType, GgufFileType, getLlama, getModuleVersion, LlamaLogLevel } from 'node-llama-cpp';

/**
 * @param {string} modelPath a GGUF file
 * @param {{ threads: number, batchSizes: number[], contextSize: number }} options one context per batch size, all over
 *   the same weights
 */
export async function openLlama(modelPath, { threads, batchSizes, contextSize }) {
  // maxThreads 0: the contexts' own numbers decide.
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    maxThreads: 0,
    logLevel: LlamaLogLevel.error,
    progressLogs: false,
  });
  const model = await llama.loadModel({ modelPath, gpuLayers: 0 });
  const contexts = new Map();
  for (const batchSize of batchSizes) {
    const context = await model.createContext({ contextSize, batchSize, sequences: 1, threads, flashAttention: true });
    contexts.set(batchSize, { context, sequence: context.getSequence() });
  }
  const fresh = async (batchSize) => {
    const { sequence } = contexts.get(batchSize);
    await sequence.clearHistory();
    return sequence;
  };
  const [first] = contexts.values();
  return {
    settings: {
      version: await getModuleVersion(),
      buildType: llama.buildType,
      llamaCpp: llama.llamaCppRelease.release,
      weights: GgufFileType[model.fileInfo.metadata.general.file_type],
      weightBytes: model.size,
      threads: first.context.idealThreads,
      flashAttention: first.context.flashAttention,
      kvCache: GgmlType[first.context.kvCacheKeyType],
      contextSize: first.context.contextSize,
      batchSizes: [...contexts.values()].map(({ context }) => context.batchSize),
    },

    /** Milliseconds to put the ids into the cache. No logits, no sampling. */
    async prefill(ids, batchSize) {
      const sequence = await fresh(batchSize);
      const start = performance.now();
      await sequence.evaluateWithoutGeneratingNewTokens(ids);
      return performance.now() - start;
    },

    /** Milliseconds from the first greedy token to the last of `count` more. */
    async decode(ids, count) {
      const sequence = await fresh(batchSizes[0]);
      let done = -1;
      let start = 0;
      const tokens = [];
      for await (const token of sequence.evaluate(ids, { temperature: 0, yieldEogToken: true })) {
        if (done < 0) start = performance.now();
        tokens.push(token);
        if (++done === count) break;
      }
      return { ms: performance.now() - start, tokens };
    },

    /** The `top` largest logits after each of the ids, [id, logit] in descending order. */
    async topLogits(ids, top) {
      const sequence = await fresh(batchSizes[0]);
      const generateNext = { logits: { filter: { includeTop: top } }, options: { temperature: 0 } };
      const outputs = await sequence.controlledEvaluate(ids.map((id) => [id, { generateNext }]));
      return outputs.map((output) => [...output.next.logits].slice(0, top));
    },

    async dispose() {
      for (const { context } of contexts.values()) await context.dispose();
      await model.dispose();
      await llama.dispose();
    },
  };
}
