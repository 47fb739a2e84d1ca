// What the prefix cache costs in JavaScript: admission of a prompt that is found, of one that is not, registration of what a
// step computed, a fork, and giving back. No native code runs.
//   node bench/prefix-cache.mjs [--tokens 1000] [--blocks 65536]
// Prints microseconds a call (median of 9 runs of 2,000) and nanoseconds a token, with the cache off as baseline.

import { parseArgs } from 'node:util';
import { BlockManager, BlockTable } from '../dist/engine/block-manager.js';
import { rootOf } from '../dist/engine/prefix-cache.js';
import { median } from './common.mjs';

const { values } = parseArgs({
  options: { tokens: { type: 'string', default: '1000' }, blocks: { type: 'string', default: '65536' } },
});
const length = Number(values.tokens);
const numBlocks = Number(values.blocks);
const repeats = 2000;
const runs = 9;
const root = rootOf('');

/** Another prompt for each seed, from the first token on. */
function prompt(seed) {
  return Int32Array.from({ length: length + 1 }, (_, i) => (seed * 7919 + i * 31) % 128_256);
}

function managerOf(prefixCaching) {
  const blocks = new BlockManager(numBlocks, { prefixCaching });
  const table = new BlockTable(length + 1);
  // Until every block has been used, so that those handed out have to be evicted.
  for (let seed = 1; prefixCaching && blocks.numCached < numBlocks - 2 * table.blocks.length; seed++) {
    const tokens = prompt(seed);
    blocks.tryAdmit(table, tokens, length + 1, root, 0);
    blocks.register(table, tokens, 0, length, root);
    blocks.release(table);
  }
  return { blocks, table, parent: new BlockTable(length + 1) };
}

/** [name, whether the cache is on, what is timed, what else] */
const cases = [
  ['admit, cache off', false, admit],
  ['admit, found', true, admit],
  ['admit, not found', true, admit, { fresh: true }],
  ['admit, not found, each block evicted', true, admit, { after: register, fresh: true }],
  ['register, cache off', false, register, { before: admit, fresh: true }],
  ['register, all at once', true, register, { before: admit, fresh: true }],
  [
    'register, a decode in the middle of a block',
    true,
    (w) => w.blocks.register(w.table, w.tokens, length, length, root),
    { before: admit },
  ],
  ['fork', true, fork, { before: forkParent }],
  ['give back', true, release, { before: admit, released: true }],
];

function admit({ blocks, table, tokens }) {
  return blocks.tryAdmit(table, tokens, length + 1, root, 0);
}
function register({ blocks, table, tokens }) {
  blocks.register(table, tokens, 0, length, root);
}
function release({ blocks, table }) {
  blocks.release(table);
}
function forkParent({ blocks, parent, tokens }) {
  if (parent.count === 0) blocks.tryAdmit(parent, tokens, length + 1, root, 0);
}
function fork({ blocks, table, parent }) {
  return blocks.tryFork(table, parent, length + 1, 0);
}

/** Microseconds a call. */
function measure(prefixCaching, timed, { before, after, fresh = false, released = false } = {}) {
  const world = managerOf(prefixCaching);
  const { blocks, table } = world;
  const texts = Array.from({ length: fresh ? 64 : 1 }, (_, i) => prompt(1_000_000 + i));
  const times = [];
  if (!fresh) {
    world.tokens = texts[0];
    admit(world);
    register(world);
    blocks.release(table);
  }
  for (let run = 0; run < runs; run++) {
    let total = 0;
    for (let i = 0; i < repeats; i++) {
      world.tokens = texts[i % texts.length];
      if (fresh) world.tokens[0] = (run * repeats + i) % 128_000;
      before?.(world);
      const start = performance.now();
      timed(world);
      total += performance.now() - start;
      after?.(world);
      if (!released) blocks.release(table);
    }
    times.push((total * 1000) / repeats);
  }
  return median(times);
}

console.log(`${length} tokens, ${numBlocks} blocks; Node ${process.version}`);
console.log('| call | us | ns a token |');
console.log('| --- | ---: | ---: |');
for (const [name, prefixCaching, timed, more] of cases) {
  const us = measure(prefixCaching, timed, more);
  console.log(`| ${name} | ${us.toFixed(2)} | ${((us * 1000) / length).toFixed(1)} |`);
}
