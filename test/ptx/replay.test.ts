// Real kernels: launches that the host executor has run, replayed from what nvcc made of the same source.

import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  changes,
  early,
  type Kernel,
  kernelsByName,
  late,
  record,
  replay,
  symbolsOf,
  writesNumbers,
} from './replay.ts';
import { type Arch, buildFolder, compilePtx, mutatedHeaders, nvcc, run } from './toolkit.ts';

const program = join(buildFolder, 'swiftkv_ptx_replay');
const cases = nvcc === undefined ? [] : run(program, []).trim().split('\n');

/** Which sources have an op's kernels. */
const sources: Record<string, readonly string[]> = {
  kv_quantize: ['kv_quantize'],
  attention_decode: ['attention_decode'],
  attention_prefill: ['attention_prefill'],
  linear: ['linear', 'product'],
  quantize_rows: ['quantize_rows', 'product'],
  qkv_rope_cache: ['heads_product', 'product'],
  swiftkv_project: ['heads_product', 'product', 'rms_norm'],
};

/**
 * Where an instruction is approximate: relative to the largest number of a result. Elsewhere the bits must be equal.
 */
const approximate: Record<string, number> = {};

/** As the kernels are shipped, multiply-adds are contracted: at most one rounding less per element of a sum of 96. */
const contracted = 96 * 2 ** -23;

const kernels = new Map<string, Map<string, Kernel>>();

/** Without contraction to multiply-adds the arithmetic is the executor's, bit for bit. */
function kernelsOf(source: string, arch: Arch, fmad: boolean): Map<string, Kernel> {
  const key = `${source} ${arch} ${fmad}`;
  let found = kernels.get(key);
  if (found === undefined) {
    found = kernelsByName([compilePtx(`csrc/backends/cuda/${source}.cu`, arch, { fmad })]);
    kernels.set(key, found);
  }
  return found;
}

function kernelNamed(name: string, op: string, arch: Arch, fmad: boolean): Kernel {
  for (const source of sources[op]!) {
    const kernel = kernelsOf(source, arch, fmad).get(name);
    if (kernel !== undefined) return kernel;
  }
  throw new Error(`${name} is not among the kernels of ${sources[op]!.join(', ')}`);
}

describe.skipIf(nvcc === undefined)('launches of the host executor, replayed from PTX', () => {
  const symbols = nvcc === undefined ? new Map<number, string>() : symbolsOf(program);
  for (const name of cases) {
    it(name, () => {
      const [op, , target] = name.split(' ') as [string, string, string];
      const arch = target.slice('sm_'.length) as Arch;
      const recording = record(program, name);
      expect(recording.launches.length).toBeGreaterThan(0);
      for (const launch of recording.launches) {
        expect(changes(launch, recording.bytes), `memory that ${launch.name} changed`).not.toEqual([]);
        const cppName = symbols.get(launch.kernel) ?? launch.name;
        for (const schedule of [late, early]) {
          const kernel = kernelNamed(cppName, op, arch, false);
          const { differences } = replay(launch, recording.bytes, kernel, approximate[op] ?? 0, schedule);
          expect(differences, `${launch.name}, copies landing ${schedule.landing}`).toEqual([]);
        }
        // Codes of fp8 may be other ones where a rounding is missing, so only numbers are compared; one architecture is
        // enough, as the compiler contracts alike on all.
        if (arch !== '80' || !writesNumbers(launch, recording.bytes)) continue;
        const shipped = kernelNamed(cppName, op, arch, true);
        const { differences } = replay(launch, recording.bytes, shipped, (approximate[op] ?? 0) + contracted);
        expect(differences, `${launch.name} as shipped`).toEqual([]);
      }
    });
  }

  it('tells a product whose fragments are loaded in another order', () => {
    const recording = record(program, 'linear bf16 sm_80');
    const [from, to] = ['x4.shared.b16 {%0, %1, %2, %3}', 'x4.shared.b16 {%0, %2, %1, %3}'];
    const include = mutatedHeaders('replay', 'backends/cuda/ptx.h', from, to);
    const mutated = kernelsByName([compilePtx('csrc/backends/cuda/linear.cu', '80', { fmad: false, include })]);
    const launch = recording.launches.at(-1)!;
    const { differences } = replay(launch, recording.bytes, mutated.get(symbols.get(launch.kernel)!)!, 2 ** -10);
    expect(differences).toEqual([expect.stringMatching(/^y: number \d+ is .*, on the executor/)]);
  });
});
