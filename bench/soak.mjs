// Many engines' lives and many requests with random aborts: does anything stay behind?
//   npm run soak [-- --quick] [--seed N] [--engines N] [--requests N]
// Exits with 1 on a leak, a hang, an unhandled rejection or an error of an unexpected code. What a leak is:
//   - native counters: anything but 0 when no engine lives, or a change while one engine answers plain requests;
//   - RSS outside the JavaScript heap, and that heap after a collection: their growth from 30% of the way on, as the
//     median of the slopes between checkpoints (one step up, when more lives overlap than before, is no slope), may be a
//     fixed sum, since allocators keep fragments and worker threads leave malloc arenas, and a sum per life or request
//     that is less than what one owns: the arrays of its batches (over 10 KiB), its tokens, promises and listeners (over
//     1 KiB). The sums are in `bounds`. A quick run resolves less: 12 MiB are 200 KiB per life of 60.

import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { Engine } from '../dist/index.js';
import { native } from '../dist/native/load.js';
import { KiB, MiB, seeded, turns, Watch } from './soak-watch.mjs';

const { values: args } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    seed: { type: 'string' },
    engines: { type: 'string' },
    requests: { type: 'string' },
  },
});
const numEngines = Number(args.engines ?? (args.quick ? 60 : 500));
const numRequests = Number(args.requests ?? (args.quick ? 600 : 5000));
const seed = Number(args.seed ?? Date.now() % 1_000_000);

/** Allowed growth: a fixed sum, and one per life or request. */
const bounds = {
  engines: { outside: [12 * MiB, 8 * KiB], heap: [2 * MiB, 2 * KiB] },
  requests: { outside: [4 * MiB, 0.5 * KiB], heap: [1 * MiB, 0.25 * KiB] },
};
const numCheckpoints = 10;
const warmUpLives = 40;

const model = 'embedded:swiftkv-50-g4';
const options = { threads: 2, maxModelLen: 128, kvCacheBytes: 256 * KiB, maxBatchRows: 64, maxSequences: 4 };
const expectedCodes = new Set(['ERR_ABORTED', 'ERR_DISPOSED']);

const watch = new Watch();
const { random, integer } = seeded(seed);
const watched = (what, promise) => watch.settles(what, promise, expectedCodes);

const request = (more = {}) => ({
  tokenIds: Array.from({ length: integer(1, 80) }, () => integer(0, 250)),
  maxTokens: integer(1, 8),
  seed: integer(0, 2 ** 31),
  ...more,
});

/** One request, that ends in one of the ways a caller has. */
async function ask(engine) {
  const way = random();
  if (way < 0.5) return engine.generate(request()).result();
  if (way < 0.75) {
    const controller = new AbortController();
    const result = engine.generate(request({ signal: controller.signal })).result();
    void turns(integer(0, 12)).then(() => controller.abort());
    return result;
  }
  if (way < 0.8) return void engine.generate(request());
  let left = integer(1, 5);
  for await (const _ of engine.generate(request())) if (--left === 0) break;
}

/** One life in this thread. */
async function live() {
  if (random() < 0.2) {
    const controller = new AbortController();
    const loading = Engine.load(model, { ...options, signal: controller.signal });
    void turns(integer(0, 300)).then(() => controller.abort());
    const engine = await loading;
    return engine.dispose();
  }
  const engine = await Engine.load(model, options);
  const work = Array.from({ length: integer(1, 2) }, () => watched('request of a life', ask(engine)));
  if (random() < 0.5) await Promise.all(work);
  else await turns(integer(0, 20));
  const ends = [engine.dispose()];
  if (random() < 0.3) ends.push(engine.dispose());
  await Promise.all([...ends, ...work]);
  const held = engine.memory().engine.total;
  if (held !== 0) watch.fail(`a disposed engine holds ${held} bytes: ${JSON.stringify(engine.memory().engine)}`);
}

/** One life on a worker thread, terminated in every second one. */
async function liveInWorker() {
  const worker = new Worker(new URL('soak-worker.mjs', import.meta.url), {
    workerData: { model, options: { ...options, threads: 1 }, request: request() },
  });
  const messages = [];
  worker.on('message', (message) => messages.push(message));
  const exit = new Promise((resolve, reject) => {
    worker.on('error', reject);
    worker.on('exit', resolve);
  });
  if (random() < 0.5) {
    if (random() < 0.5) await new Promise((resolve) => worker.once('message', resolve));
    await turns(integer(0, 200));
    await worker.terminate();
    return;
  }
  await exit;
  if (messages.at(-1) !== 0) watch.fail(`a worker's disposed engine holds ${messages.at(-1)} bytes`);
}

/** Some lives at once, on one thread or on several. */
function someLives() {
  return random() < 0.2 ? [live(), live()] : [random() < 0.15 ? liveInWorker() : live()];
}

async function soakEngines() {
  // Allocators, code and thread stacks reach their size: what overlaps most comes first.
  await Promise.all([live(), live(), liveInWorker(), liveInWorker()].map((life) => watched('warm-up', life)));
  for (let i = 0; i < warmUpLives; i++) await Promise.all(someLives().map((life) => watched('warm-up', life)));
  const rows = [];
  for (let i = 0; i < numEngines; ) {
    if (i >= (rows.length * numEngines) / numCheckpoints) await watch.checkpoint('engines', i, rows);
    const lives = someLives();
    await Promise.all(lives.map((life) => watched(`life ${i}`, life)));
    i += lives.length;
    const { total } = native().memory();
    if (total !== 0) watch.fail(`${total} bytes are held after life ${i}`);
  }
  await watch.checkpoint('engines', numEngines, rows);
  watch.judgeGrowth('engines', rows, bounds.engines);
}

/** Aborted requests give their blocks back with the end of the step that reads them. */
async function freed(engine) {
  while (engine.info().load.freeBlocks !== engine.info().numBlocks) await turns(1);
}

async function soakRequests() {
  const rows = [];
  const engine = await Engine.load(model, options);
  const before = JSON.stringify(engine.memory().engine);
  await watch.checkpoint('requests', 0, rows);
  for (let done = 0; done < numRequests; ) {
    let left = Math.min(Math.ceil(numRequests / numCheckpoints), numRequests - done);
    done += left;
    const client = async () => {
      while (left-- > 0) await watched('request', ask(engine));
    };
    await Promise.all(Array.from({ length: 8 }, client));
    await watched('the blocks of ended requests', freed(engine));
    await watch.checkpoint('requests', done, rows);
    if (JSON.stringify(engine.memory().engine) !== before) watch.fail(`native memory changed: ${before}`);
  }
  watch.judgeGrowth('requests', rows, bounds.requests);
  await engine.dispose();
  if (native().memory().total !== 0) watch.fail(`${native().memory().total} bytes are held at the end`);
}

console.log(`${numEngines} lives and ${numRequests} requests, seed ${seed}; bytes in MiB, native in bytes`);
watch.printHeader();
await soakEngines();
await soakRequests();
await turns(50);
watch.exit();
