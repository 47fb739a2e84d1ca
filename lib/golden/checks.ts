// Every comparison of one golden model at one setting: logits, hidden states, caches, greedy answers, in one piece, in
// chunks, mixed with others, through the bare model and through the engine.

import { Engine } from '../engine/engine.ts';
import type { ComputeDType } from '../model/forward.ts';
import { cacheSpecs, kvBytesPerToken } from '../model/kv-cache.ts';
import { type LoadOptions, loadModel } from '../model/load.ts';
import { openModel } from '../model/open-model.ts';
import { type Comparison, compareBits, compareIds, compareNumbers, compareRms, compareRows } from './compare.ts';
import { Driver, type Piece } from './driver.ts';
import type { GoldenCase, GoldenSequence } from './format.ts';
import { checkFp8Linear } from './fp8-linear.ts';
import { optionsOf } from './places.ts';
import { checkTaps } from './taps.ts';

export interface Setting {
  dtype: ComputeDType;
  /** ISA level, or another device. */
  place: string;
  threads: number;
}

const chunks = [1, 7, 16];
const mixedChunk = 7;
/** Logits have a standard deviation of about 2.5; W8A8 differs from W8A16 by an RMS of 0.2. */
const w8a8Rms = 0.3;

/** Logits of every sequence at full depth, for comparing settings that must agree in bits. */
export interface CaseResult {
  comparisons: Comparison[];
  logits: Float32Array[];
}

/** @throws what loading throws: ERR_MODEL_UNSUPPORTED for a model that this version does not have. */
export async function checkCase(golden: GoldenCase, setting: Setting): Promise<CaseResult> {
  const { sequences } = golden;
  const options = await loadOptions(golden, setting);
  const comparisons: Comparison[] = [];
  const logits: Float32Array[] = [];
  const model = await loadModel(golden.dir, options);
  try {
    const driver = new Driver(model);
    comparisons.push(compareNumbers('number of caches', [model.info().numDistinctCaches], [golden.numKvCaches]));
    for (const [slot, sequence] of sequences.entries()) {
      const full = await checkSequence(driver, slot, sequence, setting.dtype, comparisons);
      logits.push(full);
    }
    comparisons.push(...(await checkMixed(driver, sequences, logits)));
    if (setting.dtype === 'f32') comparisons.push(...(await checkTaps(golden, model)));
  } finally {
    await model.dispose();
  }
  comparisons.push(...(await checkEngine(golden, setting, logits)));
  comparisons.push(...(await checkFp8Linear(golden, setting.place, setting.threads)));
  if (setting.dtype === 'f32') comparisons.push(...(await checkW8a8(golden, options)));
  return { comparisons, logits };
}

/**
 * The whole model with rows in FP8 before every FP8 product. A flipped code spreads, hence RMS alone; f32 only, since
 * the reference keeps its activations in f32 and bf16 would flip more codes.
 */
async function checkW8a8(golden: GoldenCase, options: LoadOptions): Promise<Comparison[]> {
  if (golden.sequences.every(({ logitsW8a8 }) => logitsW8a8 === null)) return [];
  const model = await loadModel(golden.dir, { ...options, activationDtype: 'fp8' });
  try {
    const driver = new Driver(model);
    const comparisons: Comparison[] = [];
    for (const [slot, { name, ids, logitsW8a8 }] of golden.sequences.entries()) {
      if (logitsW8a8 === null) continue;
      const { logits } = await driver.prefill(slot, [...ids], ids.length, true);
      comparisons.push(compareRms(`${name} logits, activations in FP8`, logits, logitsW8a8, w8a8Rms));
    }
    return comparisons;
  } finally {
    await model.dispose();
  }
}

/** Room for all sequences at once, each with its answer, and no more. */
async function loadOptions({ dir, sequences }: GoldenCase, { dtype, place, threads }: Setting) {
  const { config } = await openModel(dir);
  const longest = Math.max(...sequences.map((s) => s.ids.length + s.greedy.length));
  const maxRows = sequences.reduce((sum, s) => sum + s.ids.length, 16);
  const maxSeqs = sequences.length;
  const blocks = maxSeqs * Math.ceil(longest / 16);
  return {
    ...optionsOf(place),
    dtype,
    kvCacheDtype: dtype,
    threads,
    maxModelLen: longest,
    kvCacheBytes: blocks * 16 * kvBytesPerToken(cacheSpecs(config, dtype)),
    maxRows,
    maxSeqs,
    maxLogitRows: maxRows,
  } as const;
}

/** One sequence alone. Returns its logits at full depth. */
async function checkSequence(
  driver: Driver,
  slot: number,
  { name, ids, logits, greedy }: GoldenSequence,
  dtype: ComputeDType,
  out: Comparison[],
): Promise<Float32Array> {
  const { config } = driver.runner;
  const vocab = config.vocabSize;
  const tokens = [...ids];
  const lastRow = (rows: Float32Array) => rows.subarray(rows.length - vocab);

  const full = await driver.prefill(slot, tokens, tokens.length, true);
  out.push(compareRows(`${name} logits of every position`, dtype, full.logits, logits, vocab));
  const inChunks = await driver.prefill(slot, tokens, mixedChunk, true);
  out.push(compareBits(`${name} logits of every position, chunks of ${mixedChunk}`, inChunks.logits, full.logits));

  for (const chunk of [tokens.length, ...chunks]) {
    const how = chunk === tokens.length ? 'whole prompt' : `chunks of ${chunk}`;
    const skipping = await driver.prefill(slot, tokens, chunk);
    out.push(compareRows(`${name} last row, ${how}`, dtype, skipping.logits, lastRow(logits), vocab));
    out.push(compareBits(`${name} last row at full depth, ${how}`, skipping.logits, lastRow(full.logits)));
    const rows = Array.from({ length: config.numLayers }, (_, l) => (l < config.numKvLayers ? tokens.length : 1));
    out.push(compareNumbers(`${name} rows of each layer, ${how}`, skipping.layerRows, rows));
    const answer = await driver.decode(slot, tokens, skipping.ids[0]!, greedy.length);
    out.push(compareIds(`${name} greedy, ${how}`, answer, greedy));
  }
  return full.logits;
}

/** All sequences in the same steps: each starts two steps after the one before, so chunks and answers share batches. */
async function checkMixed(driver: Driver, sequences: GoldenSequence[], full: Float32Array[]): Promise<Comparison[]> {
  const vocab = driver.runner.config.vocabSize;
  const comparisons: Comparison[] = [];
  const running = sequences.map((s, slot) => ({ ...s, slot, tokens: [...s.ids], done: 0 }));
  const isFinished = (s: (typeof running)[number]) => s.tokens.length === s.ids.length + s.greedy.length;
  for (let step = 0; !running.every(isFinished); step++) {
    const active = running.filter((s) => !isFinished(s) && step >= 2 * s.slot);
    const pieces = active.map((s): Piece => {
      const count = Math.min(mixedChunk, s.tokens.length - s.done);
      const survivors = s.done + count === s.tokens.length ? 1 : 0;
      return { slot: s.slot, tokens: s.tokens, start: s.done, count, survivors };
    });
    const output = await driver.step(pieces);
    let row = 0;
    for (const [i, s] of active.entries()) {
      const { start, count, survivors } = pieces[i]!;
      s.done = start + count;
      if (survivors === 0) continue;
      if (s.tokens.length === s.ids.length) {
        const logits = output.logits.subarray(row * vocab, (row + 1) * vocab);
        const expected = full[s.slot]!;
        comparisons.push(
          compareBits(`${s.name} last row, mixed with others`, logits, expected.subarray(expected.length - vocab)),
        );
      }
      s.tokens.push(output.ids[row]!);
      row++;
    }
  }
  for (const s of running) {
    comparisons.push(compareIds(`${s.name} greedy, mixed with others`, s.tokens.slice(s.ids.length), s.greedy));
  }
  return comparisons;
}

/** The same answers through the engine: requests at once, chunked and batched by the scheduler. */
async function checkEngine(golden: GoldenCase, setting: Setting, full: Float32Array[]): Promise<Comparison[]> {
  const { dtype, place, threads } = setting;
  const engine = await Engine.load(golden.dir, {
    dtype,
    prefixCaching: false, // rows are counted
    kvCacheDtype: dtype,
    ...optionsOf(place),
    threads,
    maxModelLen: 16 * Math.ceil(Math.max(...golden.sequences.map((s) => s.ids.length + s.greedy.length)) / 16),
    kvCacheBytes: 2 ** 22,
    maxSequences: 4,
    maxBatchRows: 20,
  });
  try {
    return (
      await Promise.all(
        golden.sequences.map(async ({ name, ids, greedy }, i) => {
          const [logits, answer] = await Promise.all([
            engine.logits(ids),
            engine.generate({ tokenIds: ids, temperature: 0, maxTokens: greedy.length, ignoreEos: true }).result(),
          ]);
          return [
            compareBits(`${name} logits of every position, engine`, logits.data, full[i]!),
            compareIds(`${name} greedy, engine`, answer.tokenIds, greedy),
          ];
        }),
      )
    ).flat();
  } finally {
    await engine.dispose();
  }
}
