// Runs everything in a golden folder and says what came out: a line per model and setting, and a total.

import { join } from 'node:path';
import { SwiftKVError } from '../errors.ts';
import type { ComputeDType } from '../model/forward.ts';
import { native } from '../native/load.ts';
import { checkCase } from './checks.ts';
import { type Comparison, compareBits } from './compare.ts';
import { checkDistill } from './distill.ts';
import { listFolder, readCase, readTensors } from './format.ts';
import { checkInit } from './init.ts';
import { optionsOf, placesOf } from './places.ts';

/** One line: a golden case at one setting. */
export interface CaseReport {
  name: string;
  setting: string;
  comparisons: Comparison[];
}

export interface FolderReport {
  cases: CaseReport[];
  /** What this version cannot do, and why: never counted as passed. */
  notSupported: { name: string; reason: string }[];
}

export const dtypes: readonly ComputeDType[] = ['f32', 'bf16'];
const threadCounts = [1, 2];

/** One model at one dtype and place, on one thread and on two, which must agree in bits. */
export async function checkModel(dir: string, name: string, dtype: ComputeDType, place: string): Promise<CaseReport> {
  const golden = await readCase(dir, name);
  const comparisons: Comparison[] = [];
  let first: Float32Array[] | null = null;
  // The threads of another device than the cpu compute nothing.
  for (const threads of optionsOf(place).device === 'cpu' ? threadCounts : [2]) {
    const result = await checkCase(golden, { dtype, place, threads });
    const suffix = `, threads ${threads}`;
    comparisons.push(...result.comparisons.map((c) => ({ ...c, what: `${c.what}${suffix}` })));
    result.logits.forEach((logits, i) => {
      if (first)
        comparisons.push(compareBits(`${golden.sequences[i]!.name} logits, threads 2 and 1`, logits, first[i]!));
    });
    first ??= result.logits;
  }
  return { name, setting: `${dtype} ${place}`, comparisons };
}

/** Distillation in f32 at one place, with and without recomputation. It runs on the cpu only. */
export async function checkDistillation(dir: string, name: string, place: string): Promise<CaseReport> {
  const comparisons: Comparison[] = [];
  for (const recompute of [false, true]) {
    const results = await checkDistill(dir, name, { place, threads: recompute ? 2 : 1, recompute });
    comparisons.push(...results.map((c) => ({ ...c, what: `${c.what}${recompute ? ', recomputed' : ''}` })));
  }
  return { name: `${name}.distill`, setting: `f32 ${place}`, comparisons };
}

/** The exact conversions of fp8_e4m3. */
export async function checkFp8Table(path: string): Promise<CaseReport> {
  const tensors = await readTensors(path);
  const values = (name: string) => tensors.get(name)!.values;
  const isNan = values('decode_is_nan');
  const table = Float32Array.from(values('decode_table'), (x, code) => (isNan[code] ? Number.NaN : x));
  const codes = Uint8Array.from({ length: table.length }, (_, code) => code);
  const inputs = values('encode_input') as Float32Array;
  return {
    name: 'fp8_e4m3',
    setting: 'conversions',
    comparisons: [
      compareBits('decode of every code', native().convertBack(codes, 'fp8_e4m3'), table),
      compareBits(
        `encode of ${inputs.length} values`,
        Float32Array.from(native().convert(inputs, 'fp8_e4m3')),
        Float32Array.from(values('encode_code')),
      ),
    ],
  };
}

/** Everything in the folder whose name contains `filter`, on all devices. `onCase` hears of each line as it is done. */
export async function checkFolder(
  dir: string,
  filter: string,
  onCase: (report: CaseReport) => void = () => {},
  devices: readonly string[] = ['cpu'],
): Promise<FolderReport> {
  const folder = await listFolder(dir);
  const report: FolderReport = { cases: [], notSupported: [] };
  const add = (one: CaseReport) => {
    report.cases.push(one);
    onCase(one);
  };
  const wanted = (name: string) => name.includes(filter);
  for (const name of folder.cases.filter(wanted)) {
    try {
      for (const dtype of dtypes) for (const place of placesOf(devices)) add(await checkModel(dir, name, dtype, place));
    } catch (error) {
      if (SwiftKVError.is(error) && error.code === 'ERR_MODEL_UNSUPPORTED') {
        report.notSupported.push({ name, reason: error.message.replaceAll(join(dir, name), name) });
      } else {
        const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
        add({ name, setting: 'error', comparisons: [{ what: 'runs', ok: false, detail, maxAbs: 0 }] });
      }
    }
  }
  if (folder.fp8Table !== null && wanted('fp8_e4m3')) add(await checkFp8Table(folder.fp8Table));
  for (const name of folder.distill.filter((name) => wanted(`${name}.distill`))) {
    const cpu = placesOf(devices.filter((device) => device === 'cpu'));
    for (const place of cpu) add(await checkDistillation(dir, name, place));
    if (cpu.length === 0) report.notSupported.push({ name: `${name}.distill`, reason: 'training runs on the cpu' });
  }
  for (const name of folder.init.filter(wanted)) {
    add({ name, setting: 'initialisation', comparisons: await checkInit(dir, name) });
  }
  return report;
}

export function formatCase({ name, setting, comparisons }: CaseReport, verbose: boolean): string {
  const misses = comparisons.filter((c) => !c.ok);
  const maxAbs = Math.max(0, ...comparisons.map((c) => c.maxAbs));
  const figures = maxAbs > 0 ? `, largest difference ${maxAbs.toPrecision(2)}` : '';
  const head =
    `${misses.length === 0 ? 'ok  ' : 'MISS'} ${name.padEnd(22)} ${setting.padEnd(12)} ` +
    `${comparisons.length - misses.length} of ${comparisons.length} comparisons${figures}`;
  const listed = verbose ? comparisons : misses;
  return [head, ...listed.map((c) => `       ${c.ok ? 'ok  ' : 'MISS'} ${c.what}: ${c.detail}`)].join('\n');
}

export function formatTotal({ cases, notSupported }: FolderReport): { text: string; failed: number } {
  const all = cases.flatMap((c) => c.comparisons);
  const failed = all.filter((c) => !c.ok).length;
  const lines = notSupported.map(({ name, reason }) => `not supported by this version: ${name} (${reason})`);
  lines.push(`total: ${all.length - failed} passed, ${failed} failed, ${notSupported.length} cases not supported`);
  return { text: lines.join('\n'), failed };
}
