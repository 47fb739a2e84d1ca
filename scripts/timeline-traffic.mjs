// A little traffic on an embedded model, traced: what docs/scheduling-timeline.svg shows.
//   npm run build:ts && node scripts/timeline-traffic.mjs TRACE.json

import { fileURLToPath } from 'node:url';
import { Engine, traceTo } from '../dist/index.js';

const [path] = process.argv.slice(2);
if (path === undefined) {
  console.error('Expected a file for the trace: node scripts/timeline-traffic.mjs TRACE.json');
  process.exit(2);
}

const model = fileURLToPath(new URL('../models/swiftkv-50', import.meta.url));
const blocks = 40;
const probe = await Engine.load(model);
const { kvBytesPerToken } = probe.info();
await probe.dispose();
const engine = await Engine.load(model, {
  maxModelLen: 600,
  kvCacheBytes: blocks * 16 * kvBytesPerToken,
  maxBatchRows: 128,
  maxSequences: 8,
  maxStepMs: 2.5,
  // One, so that the JavaScript thread has the other processor of a small machine.
  threads: 1,
});

const tokens = (length, salt) => Array.from({ length }, (_, i) => ((i + 7) * (salt * 31 + 17)) % 900);
const ask = (options) => engine.generate({ temperature: 0, ignoreEos: true, ...options });
/** Resolves when the answer has so many tokens; goes on reading to its end. */
function read(options, count, pause = 0) {
  let reached;
  const promise = new Promise((resolve) => {
    reached = resolve;
  });
  const end = (async () => {
    let seen = 0;
    for await (const part of ask(options)) {
      if (part.type === 'text') seen += part.tokenIds.length;
      if (seen >= count) reached();
      if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
    }
  })();
  return { reached: promise, end };
}

// Warm code and a cost model that has seen the machine.
for (let i = 0; i < 30; i++) {
  await Promise.all([3, 4, 5].map((salt) => ask({ tokenIds: tokens(130, salt + i), maxTokens: 12 }).result()));
}
engine.resetPrefixCache();

const trace = await traceTo(path);
const long = tokens(430, 1);
// Two answers run, one of them for a slow reader.
const first = read({ tokenIds: tokens(40, 2), maxTokens: 52 }, 8);
const second = read({ tokenIds: tokens(30, 6), maxTokens: 40, maxBufferedTokens: 6 }, 8, 9);
await first.reached;
// A long prompt is read in chunks beside them, and a short one passes it.
const third = read({ tokenIds: long, maxTokens: 14 }, 1);
await new Promise((resolve) => setTimeout(resolve, 3));
const fourth = read({ tokenIds: tokens(24, 4), maxTokens: 10 }, 1);
await third.reached;
// The long prompt again, two answers to it: most of it is in the cache, and the second answer forks.
const fifth = ask({ tokenIds: [...long, 5, 6, 7], maxTokens: 10, n: 2, temperature: 1, seed: 3 }).results();
await fourth.end;
// Somebody more important needs the room of others.
const sixth = read({ tokenIds: tokens(200, 8), maxTokens: 8, priority: 1 }, 1);
await Promise.all([first.end, second.end, third.end, fifth, sixth.end]);
await trace.close();
await engine.dispose();
