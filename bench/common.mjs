// What the scripts of this folder share: an engine for a model, prompts, and how figures are written.

import { availableParallelism } from 'node:os';
import { othersShare, readCpu } from '../dist/cli/bench/cpu-share.js';
import { median, relativeSpread, spread } from '../dist/cli/bench/statistics.js';
import { Engine } from '../dist/index.js';
import { version } from '../dist/version.js';

export { median, spread };

/** Loads `model` and prints what a figure of it is worth nothing without. */
export async function loadForBench(model, { threads, isa, kvCacheDtype, ...options }) {
  const engine = await Engine.load(model, {
    prefixCaching: false, // prompts repeat and are to be computed
    ...(threads && { threads: Number(threads) }),
    ...(isa && { isa }),
    ...(kvCacheDtype && { kvCacheDtype }),
    ...options,
  });
  const info = engine.info();
  console.log(
    `${info.source}: compute ${info.dtype}, KV cache ${info.kvCacheDtype}, kernels ${info.level}, ${info.threads} of ` +
      `${availableParallelism()} threads; swiftkv ${version}, Node ${process.version}`,
  );
  return engine;
}

/** Ids all over the vocabulary; another seed, another prompt. */
export function tokenIds(length, vocabSize, seed = 1) {
  return Int32Array.from({ length }, (_, i) => ((i + seed) * 7919) % vocabSize);
}

/** `46.6 ms (±1.2%, 5 times)`: the median, and half of the middle half's width. */
export function formatSpread(samples, unit, digits = 1) {
  const s = spread(samples);
  return `${s.median.toFixed(digits)} ${unit} (±${((relativeSpread(s) / 2) * 100).toFixed(1)}%, ${s.samples} times)`;
}

/** Runs `work` and says which share of the machine other processes took meanwhile (null: unknown). */
export async function withOthers(work) {
  const before = readCpu();
  const value = await work();
  return { value, others: othersShare(before, readCpu()) };
}

export function formatOthers(shares) {
  const known = shares.filter((share) => share !== null);
  return known.length === 0 ? 'unknown' : `at most ${(Math.max(...known) * 100).toFixed(0)}%`;
}
