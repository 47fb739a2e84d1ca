// One FP8 module on its own, with rows in f32 and in FP8: the sharp test of 8-bit products, before any rounding spreads.

import { openBackend } from '../kernels/backend.ts';
import { openModel } from '../model/open-model.ts';
import { planWeights } from '../model/weight-plan.ts';
import type { NativeTensor } from '../native/binding.ts';
import { native } from '../native/load.ts';
import { type Comparison, compareNumbers, compareRelative } from './compare.ts';
import type { GoldenCase } from './format.ts';
import { optionsOf } from './places.ts';

/** Of the largest output of a row: f32 sums in another order, and codes that must be the same. */
const bound = 1e-4;

export async function checkFp8Linear(golden: GoldenCase, place: string, threads: number): Promise<Comparison[]> {
  const { fp8Linear: expected } = golden;
  if (expected === null) return [];
  const binding = native();
  const device = openBackend(binding, { ...optionsOf(place), threads }).native;
  try {
    const { checkpoint } = await openModel(golden.dir);
    const name = `${expected.module}.weight`;
    const [n, k] = checkpoint.tensors.get(name)!.shape as [number, number];
    const parts = [{ name, rows: n, shape: [n, k] }];
    const target = { key: 'layers.0.q', kind: 'matrix', rows: n, k, parts } as const;
    const plan = planWeights(
      [target],
      new Map([...checkpoint.tensors].filter(([t]) => t.startsWith(name))),
      'f32',
      name,
    );
    const w = binding.tensor(device, 'fp8_e4m3', [n, k], 'panels');
    await binding.loadWeights(
      device,
      plan.segments.map(({ key: _, ...segment }) => ({ ...segment, dst: w })),
    ).promise;

    const rows = expected.x.length / k;
    const tensor = (dtype: 'f32' | 'u8', shape: number[]) => binding.tensor(device, dtype, shape, 'row_major');
    const a = tensor('f32', [rows, k]);
    a.writeFloats(expected.x);
    const y = tensor('f32', [rows, n]);
    const codes = tensor('u8', [rows, k]);
    const scales = tensor('f32', [rows]);
    const product = async (fp8Activations: boolean): Promise<Float32Array> => {
      await device.run('linear', { a, w, y }, { accumulate: false, ...(fp8Activations ? { fp8Activations } : {}) });
      return y.readFloats();
    };
    await device.run('quantize_rows', { a, codes, scales }, {});
    return [
      compareNumbers(`${expected.module} codes of its rows`, [...bytesOf(codes)], [...expected.codes]),
      compareRelative(`${expected.module} scales of its rows`, scales.readFloats(), expected.scales, 1, 1e-6),
      compareRelative(`${expected.module} W8A16`, await product(false), expected.w8a16, n, bound),
      compareRelative(`${expected.module} W8A8`, await product(true), expected.w8a8, n, bound),
    ];
  } finally {
    device.close();
  }
}

function bytesOf(tensor: NativeTensor): Uint8Array {
  const bytes = new Uint8Array(tensor.byteLength);
  tensor.read(bytes);
  return bytes;
}
