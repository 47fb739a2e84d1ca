// swiftkv as one side of a comparison, through its public engine.

import { Engine, version } from '../../dist/index.js';

/** @param {string} source @param {object} options of Engine.load */
export async function openSwiftkv(source, options) {
  const engine = await Engine.load(source, { prefixCaching: false, ...options });
  const generate = (tokenIds, maxTokens) =>
    engine.generate({ tokenIds, maxTokens, temperature: 0, ignoreEos: true }).result();
  const { config, level, threads, dtype, kvCacheDtype, maxRows, bytes } = engine.info();
  return {
    settings: {
      version,
      level,
      threads,
      dtype,
      weightDtype: options.weightDtype ?? dtype,
      weightBytes: bytes.weights,
      kvCache: kvCacheDtype,
      chunk: maxRows,
      vocabSize: config.vocabSize,
    },

    /** Milliseconds to the first greedy token: the prompt, one row of the head, and sampling. */
    async prefill(ids) {
      return (await generate(ids, 1)).timings.ttftMs;
    },

    /** Milliseconds from the first greedy token to the last of `count` more. */
    async decode(ids, count) {
      const { timings, tokenIds } = await generate(ids, count + 1);
      return { ms: timings.tpotMs * count, tokens: tokenIds };
    },

    dispose: () => engine.dispose(),
  };
}
