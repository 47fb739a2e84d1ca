// One peer in a process of its own, so that memory and threads do not mix. Driven by messages: { id, method, args },
// answered by { id, result } or { id, error }.

import { countProcessors } from './cpu-share.mjs';
import { randomIds } from './token-ids.mjs';

/** Loaded on demand: neither needs the other's package. */
const openers = {
  swiftkv: async (...args) => (await import('./swiftkv-peer.mjs')).openSwiftkv(...args),
  'node-llama-cpp': async (...args) => (await import('./llama-peer.mjs')).openLlama(...args),
};

let peer;
const methods = {
  async open(kind, ...args) {
    const start = performance.now();
    peer = await openers[kind](...args);
    return { settings: peer.settings, loadMs: performance.now() - start };
  },

  /** `batchSize` is node-llama-cpp's. */
  async prefill({ vocabSize, tokens, seed, batchSize, knownPids }) {
    const ids = randomIds(vocabSize, tokens, seed);
    const count = countProcessors(knownPids);
    const ms = await peer.prefill(ids, batchSize);
    return { ms, ...count() };
  },

  async decode({ vocabSize, context, tokens, seed, knownPids }) {
    const ids = randomIds(vocabSize, context, seed);
    const count = countProcessors(knownPids);
    const { ms } = await peer.decode(ids, tokens);
    return { ms, ...count() };
  },

  async close() {
    await peer?.dispose();
    return { peakBytes: process.resourceUsage().maxRSS * 1024 };
  },
};

process.on('message', async ({ id, method, args }) => {
  try {
    process.send({ id, result: await methods[method](...args) });
  } catch (error) {
    process.send({ id, error: { message: error?.message ?? String(error), code: error?.code } });
  }
  if (method === 'close') process.disconnect();
});
