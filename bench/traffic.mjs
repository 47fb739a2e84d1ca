// Real traffic on one engine: many callers at once, bursts, callers who leave or read slowly, requests that are wrong, and
// a cache too small for all of them. Does every request end as it must, with the answer that it gets alone?
//   npm run soak:traffic [-- --requests N] [--seed N] [--blocks N] [--threads N]
// Exits with 1
//   - where a request ends in another way than its fate allows, hangs, or rejects where nobody looks;
//   - where one of ten finished answers is not, token by token, what the same request is answered alone;
//   - where blocks, native memory, the JavaScript heap or RSS outside it grow from checkpoint to checkpoint (soak-watch.mjs);
//   - where the event loop's delay at p99 is more than 10 ms above that of the idle engine, measured in the same run;
//   - where an answer's events on the diagnostics channel contradict each other, or never end;
//   - where the run was too easy: fewer preemptions, prefix hits, refusals or pauses than `atLeast` says.

import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual, parseArgs } from 'node:util';
import { Engine } from '../dist/index.js';
import { native } from '../dist/native/load.js';
import { KiB, MiB, turns, Watch } from './soak-watch.mjs';
import { call, callAlone } from './traffic/caller.mjs';
import { Events } from './traffic/events.mjs';
import { maxModelLen, planTraffic } from './traffic/plan.mjs';

const { values: args } = parseArgs({
  options: {
    requests: { type: 'string', default: '1200' },
    seed: { type: 'string' },
    blocks: { type: 'string', default: '112' },
    threads: { type: 'string' },
  },
});
const numRequests = Number(args.requests);
const seed = Number(args.seed ?? Date.now() % 1_000_000);

const model = 'embedded:swiftkv-50-g4';
const maxSequences = 32;
const numCheckpoints = 10;
/** Which answers are checked: one of so many, and one of so many of those with several answers. */
const checkEvery = 10;
const checkEveryOfSeveral = 2;
/** At each checkpoint. */
const idleMs = 400;
const allowedDelayMs = 10;
/** Of a block of the model's cache in bf16. */
const blockBytes = 40 * KiB;
const bounds = { outside: [8 * MiB, 1 * KiB], heap: [2 * MiB, 0.5 * KiB] };
/** Of a run of 1,000 requests. */
const atLeast = {
  preemptions: 50,
  'prefix hits': 100,
  'checked alone': 30,
  'queue full': 10,
  aborted: 50,
  left: 20,
  invalid: 30,
  paused: 10,
  'blocks copied': 10,
};

const watch = new Watch();
const counts = new Map();
const count = (what, by = 1) => counts.set(what, (counts.get(what) ?? 0) + by);

const engine = await Engine.load(model, {
  maxModelLen,
  maxSequences,
  maxQueued: 32,
  kvCacheBytes: Number(args.blocks) * blockBytes,
  ...(args.threads && { threads: Number(args.threads) }),
});
const { numBlocks, threads, level } = engine.info();
const events = new Events(watch);

/** Codes that a request may reject with; a valid one may also be answered. */
function expectedCodes({ end, code, options }) {
  if (end?.how === 'before') return new Set([code ?? 'ERR_ABORTED']);
  if (code !== null) return new Set([code]);
  const codes = ['ERR_QUEUE_FULL'];
  if (end !== null && end.how !== 'break') codes.push('ERR_ABORTED');
  if (options.queueTimeoutMs !== undefined) codes.push('ERR_QUEUE_TIMEOUT');
  return new Set(codes);
}

const names = {
  ERR_QUEUE_FULL: 'queue full',
  ERR_QUEUE_TIMEOUT: 'queue timeout',
  ERR_ABORTED: 'aborted',
  ERR_INVALID_ARGUMENT: 'invalid',
  ERR_CONTEXT_LENGTH: 'invalid',
  ERR_CHAT_TEMPLATE: 'invalid',
};

/** Runs one request to its end; one that ought to be checked goes to `finished`. */
async function play(spec, number, finished) {
  let outcome = null;
  const work = call(engine, spec).then((value) => {
    outcome = value;
  });
  const what = `request ${number} of seed ${seed} (${JSON.stringify({ ...spec, options: undefined })})`;
  const state = await watch.settles(what, work, expectedCodes(spec));
  if (state !== 'done') return count(names[state] ?? state);
  if (spec.code !== null) watch.fail(`${what}: was answered`);
  if (outcome.left) return count('left');
  count('finished');
  for (const usage of outcome.usage) {
    if (usage.cachedTokens > 0) count('prefix hits');
    count('cached tokens', usage.cachedTokens);
    count('completion tokens', usage.completionTokens);
  }
  count('prompt tokens', outcome.usage[0].promptTokens);
  const several = (spec.options.n ?? 1) > 1;
  if (number % (several ? checkEveryOfSeveral : checkEvery) === 0)
    finished.push({ spec, what, answers: outcome.answers });
}

/** Starts requests as planned, and waits for the end of all. */
async function playAll(specs, from, finished) {
  let inFlight = 0;
  let oneEnded = () => {};
  const all = [];
  for (const [i, spec] of specs.entries()) {
    if (spec.gapMs > 0) await sleep(spec.gapMs);
    while (inFlight >= spec.level) {
      await new Promise((resolve) => {
        oneEnded = resolve;
      });
    }
    inFlight++;
    const ended = play(spec, from + i, finished).finally(() => {
      inFlight--;
      oneEnded();
    });
    all.push(ended);
  }
  await Promise.all(all);
}

/** Aborted requests give their blocks back with the end of the step that reads them. */
async function idle() {
  const busy = () => {
    const { running, waiting, freeBlocks } = engine.info().load;
    return running + waiting > 0 || freeBlocks !== numBlocks;
  };
  while (busy()) await turns(1);
}

async function checkAlone({ spec, what, answers }) {
  engine.resetPrefixCache();
  const alone = await callAlone(engine, spec);
  count('checked alone');
  if (!isDeepStrictEqual(alone.answers, answers)) {
    const told = ({ tokenIds }) => tokenIds.join(' ');
    watch.fail(`${what}: ${answers.map(told).join(' | ')}\n  alone: ${alone.answers.map(told).join(' | ')}`);
  }
}

/** Every sampler slot takes its counts, allocators and code reach their size. */
async function warmUp() {
  const one = (i) => ({ tokenIds: [20 + i, 21], maxTokens: 40, ignoreEos: true, repetitionPenalty: 1.1 });
  await Promise.all(Array.from({ length: maxSequences }, (_, i) => engine.generate(one(i)).result()));
  for (const [i, spec] of planTraffic(1, 120).entries()) {
    if (spec.code === null) await watch.settles(`warm-up ${i}`, call(engine, { ...spec, end: null }), new Set());
  }
}

/** Closes the doors while there is traffic: some answers are finished in time, the others aborted. */
async function drain() {
  const late = planTraffic(seed + 1, 60).filter((spec) => spec.code === null && spec.end === null);
  const codes = new Set(['ERR_ABORTED', 'ERR_QUEUE_FULL', 'ERR_QUEUE_TIMEOUT']);
  const work = late.map((spec, i) => watch.settles(`request ${i} before the drain`, call(engine, spec), codes));
  await turns(100);
  const drained = engine.drain({ timeoutMs: 300 });
  await watch.settles('a request after the drain', refused(), new Set());
  await watch.settles('the drain', drained, new Set());
  const { finished, aborted } = await drained;
  const states = await Promise.all(work);
  count('finished while draining', finished);
  count('aborted by the drain', aborted);
  if (aborted !== states.filter((state) => state === 'ERR_ABORTED').length) {
    watch.fail(`the drain aborted ${aborted} requests, but the callers were told ${states.join(', ')}`);
  }
  await watch.settles('the blocks of drained requests', idle(), new Set());
}

async function refused() {
  const valid = planTraffic(seed, 60).find((spec) => spec.code === null && spec.end === null);
  const code = await call(engine, valid).then(
    () => 'an answer',
    (error) => error.code,
  );
  if (code !== 'ERR_DRAINING') watch.fail(`a request after the drain got ${code}`);
}

function memoryOf(engine) {
  return JSON.stringify(engine.memory().engine);
}

console.log(
  `${numRequests} requests, seed ${seed}; ${model}, ${threads} threads of ${level}, ${numBlocks} blocks of 16 tokens, ` +
    `${maxSequences} sequences; bytes in MiB, native in bytes`,
);
const specs = planTraffic(seed, numRequests);
const idleDelay = monitorEventLoopDelay({ resolution: 1 });
const busyDelay = monitorEventLoopDelay({ resolution: 1 });
await warmUp();
await watch.settles('the end of the warm-up', idle(), new Set());
const held = memoryOf(engine);
const before = engine.stats();
const preemptions = () => engine.stats().preemptions - before.preemptions;
const shown = () => [preemptions(), counts.get('prefix hits') ?? 0];

/** Between pieces of traffic, so that what else the machine does is in both histograms. */
async function measureIdle() {
  idleDelay.enable();
  await sleep(idleMs);
  idleDelay.disable();
}

watch.printHeader(['preemptions', 'prefix hits']);
const rows = [];
await watch.checkpoint('traffic', 0, rows, shown());
let trafficMs = 0;
for (let k = 0; k < numCheckpoints; k++) {
  const from = Math.floor((k * numRequests) / numCheckpoints);
  const to = Math.floor(((k + 1) * numRequests) / numCheckpoints);
  const finished = [];
  const start = performance.now();
  busyDelay.enable();
  await playAll(specs.slice(from, to), from, finished);
  busyDelay.disable();
  trafficMs += performance.now() - start;
  await watch.settles('the blocks of ended requests', idle(), new Set());
  for (const one of finished) await watch.settles(`${one.what}, alone`, checkAlone(one), new Set());
  await watch.settles('the blocks of requests alone', idle(), new Set());
  finished.length = 0;
  events.checkIdle(engine.stats());
  await watch.checkpoint('traffic', to, rows, shown());
  await measureIdle();
  if (memoryOf(engine) !== held) watch.fail(`native memory changed from ${held} to ${memoryOf(engine)}`);
}
watch.judgeGrowth('requests', rows, bounds);
count('preemptions', preemptions());
const after = engine.stats();
count('tokens found in the prefix cache', after.cache.hitTokens - before.cache.hitTokens);
count('evictions', after.cache.evictions - before.cache.evictions);
count('paused', events.counts.paused);
count('blocks copied', events.counts.copies);
count('steps', after.steps - before.steps);

await drain();
events.checkIdle(engine.stats());

await engine.dispose();
if (native().memory().total !== 0) watch.fail(`${native().memory().total} bytes are held at the end`);
await turns(50);

for (const [what, number] of [...counts].sort()) console.log(`${String(number).padStart(8)} ${what}`);
const tokens = counts.get('prompt tokens') + counts.get('completion tokens');
console.log(
  `${(trafficMs / 1000).toFixed(1)} s of traffic, ${((tokens / trafficMs) * 1000).toFixed(0)} tokens/s of finished requests`,
);
for (const [what, least] of Object.entries(atLeast)) {
  const number = counts.get(what) ?? 0;
  if (number < (least * Math.min(numRequests, 1000)) / 1000)
    watch.fail(`${number} ${what}, expected at least ${least}`);
}
const p99 = (histogram) => histogram.percentile(99) / 1e6;
console.log(
  `event-loop delay at p99: ${p99(idleDelay).toFixed(2)} ms idle, ${p99(busyDelay).toFixed(2)} ms in traffic`,
);
if (p99(busyDelay) > p99(idleDelay) + allowedDelayMs) watch.fail('the event loop was late');
watch.exit();
