// Fuzzing of everything that reads a model folder: one whole folder, one of its files damaged by 1 to 5 changes.

import { readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { Engine } from '../../lib/engine/engine.ts';
import { SwiftKVError } from '../../lib/errors.ts';
import { openAll, tinyFiles, tinyModel, writeTinyModel } from '../checkpoint/hostile-model.ts';
import { configOf } from '../reference/generate.ts';
import { type Mutation, mutateBytes, mutateJson, mutateLength, mutations } from './mutate.ts';

/**
 * Address space that reading one folder may add, beside 100 times the size of its files. What is counted is VmPeak of
 * the process: it grows with what is asked for, touched or not. V8's own heap takes its memory in steps of this size.
 */
const slackBytes = 64 * 2 ** 20;
const bytesPerFileByte = 100;

const targets = ['config', 'header', 'index', 'generation', 'tokenizer', 'tokenizerConfig'] as const;
type Target = (typeof targets)[number];

export interface FuzzReport {
  inputs: number;
  /** How often each code came, and `none` for folders that opened. */
  codes: Record<string, number>;
  /** The most that one input added to the address space. */
  maxGrowth: number;
  seconds: number;
  seed: number;
}

/** @param options.milliseconds stop after this time, inputs or not */
export async function fuzzReaders(
  folder: string,
  options: { inputs: number; milliseconds?: number; seed?: number },
): Promise<FuzzReport> {
  const { inputs, milliseconds = Number.POSITIVE_INFINITY, seed = Date.now() % 2 ** 31 } = options;
  const whole = join(folder, 'whole');
  const damaged = { one: join(folder, 'one'), sharded: join(folder, 'sharded') };
  await writeTinyModel(whole);
  await writeTinyModel(damaged.one);
  await writeTinyModel(damaged.sharded, { shards: 2 });
  await checkGood(whole);
  await openAll(whole);

  const report: FuzzReport = { inputs: 0, codes: {}, maxGrowth: 0, seconds: 0, seed };
  const start = performance.now();
  const property = fc.asyncProperty(fc.constantFrom(...targets), mutations, async (target, changes) => {
    const dir = target === 'index' ? damaged.sharded : damaged.one;
    const { path, bytes } = await damage(dir, target, changes);
    const original = await readFile(path);
    await writeFile(path, bytes);
    const before = peakBytes();
    const code = await codeOf(dir);
    const growth = peakBytes() - before;
    await writeFile(path, original);
    report.inputs++;
    report.codes[code] = (report.codes[code] ?? 0) + 1;
    report.maxGrowth = Math.max(report.maxGrowth, growth);
    const limit = slackBytes + bytesPerFileByte * bytes.length;
    if (growth > limit) throw new Error(`reading ${bytes.length} bytes took ${growth} bytes of memory`);
    if (code === 'none' && report.inputs % 16 === 0) await checkLoads(dir, path, bytes, original);
  });
  await fc.assert(property, {
    numRuns: inputs,
    seed,
    ...(Number.isFinite(milliseconds) ? { interruptAfterTimeLimit: milliseconds, markInterruptAsFailure: false } : {}),
  });
  report.seconds = (performance.now() - start) / 1000;
  await checkGood(whole);
  return report;
}

/** The damaged file, not yet written. */
async function damage(
  dir: string,
  target: Target,
  changes: readonly Mutation[],
): Promise<{ path: string; bytes: Buffer }> {
  if (target === 'config') return { path: join(dir, 'config.json'), bytes: mutateJson(configOf(tinyModel), changes) };
  if (target === 'generation') return json(dir, 'generation_config.json', changes);
  if (target === 'tokenizer') return json(dir, 'tokenizer.json', changes);
  if (target === 'tokenizerConfig') return json(dir, 'tokenizer_config.json', changes);
  if (target === 'index') {
    const path = join(dir, 'model.safetensors.index.json');
    return { path, bytes: mutateJson(JSON.parse(await readFile(path, 'utf8')), changes) };
  }
  const path = join(dir, 'model.safetensors');
  const file = await readFile(path);
  const length = Number(file.readBigUInt64LE(0));
  const header = mutateJson(JSON.parse(file.toString('utf8', 8, 8 + length)), changes);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(mutateLength(header.length, changes));
  const whole = Buffer.concat([prefix, header, file.subarray(8 + length)]);
  // A cut of the header also cuts the file, in half of the cases.
  const cut = changes.filter(({ kind, at }) => kind === 'truncate' && at % 2 === 0);
  return { path, bytes: mutateBytes(whole, cut) };
}

function json(dir: string, name: keyof typeof tinyFiles, changes: readonly Mutation[]) {
  return { path: join(dir, name), bytes: mutateJson(tinyFiles[name], changes) };
}

async function codeOf(dir: string): Promise<string> {
  try {
    await openAll(dir);
    return 'none';
  } catch (error) {
    if (!SwiftKVError.is(error)) throw new Error('an error without a code', { cause: error });
    if (error.code === 'ERR_INTERNAL') throw new Error('a defect', { cause: error });
    return error.code;
  }
}

/** What opens must also load and run, or be refused with a code. */
async function checkLoads(dir: string, path: string, bytes: Buffer, original: Buffer): Promise<void> {
  await writeFile(path, bytes);
  try {
    const engine = await Engine.load(dir, { kvCacheBytes: 2 ** 18, threads: 1, maxSequences: 2 });
    try {
      await engine.generate({ tokenIds: [2, 3], maxTokens: 2 }).result();
    } finally {
      await engine.dispose();
    }
  } catch (error) {
    if (!SwiftKVError.is(error) || error.code === 'ERR_INTERNAL') throw error;
  } finally {
    await writeFile(path, original);
  }
}

async function checkGood(dir: string): Promise<void> {
  const engine = await Engine.load(dir, { kvCacheBytes: 2 ** 18, threads: 1 });
  const { tokenIds } = await engine.generate({ tokenIds: [2, 3], maxTokens: 3, ignoreEos: true }).result();
  await engine.dispose();
  if (tokenIds.length !== 3) throw new Error(`the good model gave ${tokenIds.length} tokens instead of 3`);
}

/** 0 where the system does not tell. */
function peakBytes(): number {
  if (process.platform !== 'linux') return 0;
  return Number(/VmPeak:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? 0) * 1024;
}

export function describeFuzz({ inputs, codes, maxGrowth, seconds, seed }: FuzzReport): string {
  const counts = Object.entries(codes).sort((a, b) => b[1] - a[1]);
  return (
    `fuzz: ${inputs} inputs in ${seconds.toFixed(1)} s, seed ${seed}, at most ${(maxGrowth / 2 ** 20).toFixed(1)} MiB ` +
    `of address space for one; ${counts.map(([code, n]) => `${code} ${n}`).join(', ')}`
  );
}
