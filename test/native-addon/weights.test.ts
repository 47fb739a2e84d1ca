// Loading weights: the right bytes in the right rows, bounded memory, honest failures.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { DType, WeightSegment } from '../../lib/native/binding.ts';
import { binding, refuses, rejects, testDevice } from './support.ts';

const device = testDevice();
const folder = mkdtempSync(join(tmpdir(), 'swiftkv-weights-'));
afterAll(() => rmSync(folder, { recursive: true }));

const values = (rows: number, k: number, salt: number) =>
  Float32Array.from({ length: rows * k }, (_, i) => Math.cos(i * 0.37 + salt));

function file(name: string, content: Float32Array, dtype: DType, before = 0): string {
  const path = join(folder, name);
  writeFileSync(path, Buffer.concat([Buffer.alloc(before, 0xee), binding.convert(content, dtype)]));
  return path;
}

const sources = ['f32', 'bf16', 'f16'] as const;
const targets = [
  ['f32', 'panels'],
  ['bf16', 'panels'],
  ['f32', 'row_major'],
  ['bf16', 'row_major'],
] as const;

test.each(sources.flatMap((source) => targets.map(([dtype, layout]) => [source, dtype, layout] as const)))(
  'segments of %s stacked into one %s %s tensor, at odd rows and odd offsets',
  async (source, dtype, layout) => {
    const k = 33;
    const parts = [5, 64, 1, 70, 0, 129].map((rows, i) => values(rows, k, i));
    const n = 270; // one row is left over
    const dst = binding.tensor(device, dtype, [n, k], layout);
    let dstRow = 0;
    const segments = parts.map((part, i): WeightSegment => {
      const offset = 3 * i + 1;
      const path = file(`${source}-${dtype}-${layout}-${i}.bin`, part, source, offset);
      const rows = part.length / k;
      dstRow += rows;
      return { path, offset, dtype: source, rows, k, dst, dstRow: dstRow - rows };
    });
    const load = binding.loadWeights(device, segments);
    await load.promise;
    const once = (x: Float32Array, type: DType) => binding.convertBack(binding.convert(x, type), type);
    const expected = new Float32Array(n * k);
    expected.set(Float32Array.from(parts.flatMap((part) => [...once(once(part, source), dtype)])));
    expect(dst.readFloats()).toEqual(expected);
    expect(load.loadedBytes).toBe(269 * k * (source === 'f32' ? 4 : 2));
    dst.dispose();
  },
);

test('a vector comes as rows of one element or as one row', async () => {
  const content = values(1, 100, 3);
  const path = file('vector.bin', content, 'f32');
  for (const [rows, k] of [
    [100, 1],
    [1, 100],
  ] as const) {
    const dst = binding.tensor(device, 'f32', [100], 'row_major');
    await binding.loadWeights(device, [{ path, offset: 0, dtype: 'f32', rows, k, dst, dstRow: 0 }]).promise;
    expect(dst.readFloats()).toEqual(content);
    dst.dispose();
  }
});

test('a large weight is loaded with no more memory than the buffers', async () => {
  const [rows, k] = [8192, 4096];
  const path = join(folder, 'large.bin');
  writeFileSync(path, new Uint8Array(rows * k * 2).fill(0x3f));
  const dst = binding.tensor(device, 'bf16', [rows, k], 'panels');
  let peak = 0;
  const before = binding.residentBytes();
  const load = binding.loadWeights(device, [{ path, offset: 0, dtype: 'bf16', rows, k, dst, dstRow: 0 }]);
  let done = false;
  const finished = load.promise.then(() => {
    done = true;
  });
  while (!done) {
    peak = Math.max(peak, binding.residentBytes() - before);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await finished;
  expect(load.loadedBytes).toBe(rows * k * 2);
  // Two buffers of 4 MiB and the JavaScript of this loop; the file has 64 MiB.
  expect(peak).toBeLessThan(24 << 20);
  expect(dst.readFloats().every((x) => x === 0.74609375)).toBe(true);
  dst.dispose();
});

test('files that are missing, too short, cut, or no files', async () => {
  const dst = binding.tensor(device, 'f32', [4, 4], 'row_major');
  const segment = (path: string, offset = 0): WeightSegment[] => [
    { path, offset, dtype: 'f32', rows: 4, k: 4, dst, dstRow: 0 },
  ];
  const reason = async (segments: WeightSegment[]) => {
    const { promise } = binding.loadWeights(device, segments);
    await rejects(promise, 'ERR_IO');
    return promise.catch((e: Error) => e.message);
  };
  expect(await reason(segment(join(folder, 'missing')))).toMatch(/missing.*No such file/);
  expect(await reason(segment(folder))).toMatch(/not a regular file/);
  const short = file('short.bin', values(4, 4, 0).subarray(1), 'f32');
  expect(await reason(segment(short))).toMatch(/short\.bin: expected at least 64 bytes.*but the file has 60/);
  const exact = file('exact.bin', values(4, 4, 0), 'f32');
  await binding.loadWeights(device, segment(exact)).promise;
  expect(await reason(segment(exact, 1))).toMatch(/65 bytes/);
  const fifo = join(folder, 'fifo');
  execFileSync('mkfifo', [fifo]);
  expect(await reason(segment(fifo))).toMatch(/not a regular file/);
  dst.dispose();
});

test('a file that is cut while it is loaded ends the load, not the process', async () => {
  const [rows, k] = [16384, 1024];
  const path = join(folder, 'cut.bin');
  writeFileSync(path, new Uint8Array(rows * k * 4));
  const dst = binding.tensor(device, 'f32', [rows, k], 'panels');
  const load = binding.loadWeights(device, [{ path, offset: 0, dtype: 'f32', rows, k, dst, dstRow: 0 }]);
  while (load.loadedBytes === 0) await new Promise((resolve) => setImmediate(resolve));
  truncateSync(path, 4096);
  const outcome = await load.promise.then(
    () => 'loaded before the cut',
    (e: { code: string; message: string }) => `${e.code} ${e.message}`,
  );
  expect(outcome).toMatch(
    /^(loaded before the cut|ERR_IO .*cut\.bin: reading \d+ bytes at offset \d+ failed: the file)/,
  );
  dst.dispose();
});

test('cancel rejects with ERR_ABORTED; dispose and close are safe during a load', async () => {
  const [rows, k] = [16384, 1024];
  const path = join(folder, 'slow.bin');
  writeFileSync(path, new Uint8Array(rows * k * 2));
  const own = binding.openDevice({ backend: 'cpu', threads: 1, level: 'scalar' });
  const start = () => {
    const dst = binding.tensor(own, 'f32', [rows, k], 'panels');
    const segment: WeightSegment = { path, offset: 0, dtype: 'f16', rows, k, dst, dstRow: 0 };
    return { dst, load: binding.loadWeights(own, Array(16).fill(segment)) };
  };
  const first = start();
  first.load.cancel();
  first.load.cancel();
  await rejects(first.load.promise, 'ERR_ABORTED');
  const second = start();
  second.dst.dispose();
  const aborted = rejects(second.load.promise, 'ERR_ABORTED');
  own.close();
  await aborted;
  expect(own.allocatedBytes).toBe(0);
  refuses(() => binding.loadWeights(own, []), 'ERR_DISPOSED');
});

test('an empty load resolves', async () => {
  const load = binding.loadWeights(device, []);
  await load.promise;
  expect(load.loadedBytes).toBe(0);
});

test('segments that do not fit their tensor', () => {
  const dst = binding.tensor(device, 'f32', [4, 4], 'row_major');
  const good = { path: '/x', offset: 0, dtype: 'f32', rows: 4, k: 4, dst, dstRow: 0 };
  const bad = [
    { rows: 5 },
    { dstRow: 1 },
    { dstRow: 2 ** 53 - 1 },
    { rows: 2 ** 53 - 1 },
    { k: 3 },
    { k: 16, rows: 1 },
    { offset: -1 },
    { rows: -1 },
    { dtype: 'u8' },
    { path: 'a\0b' },
    { path: 1 },
  ];
  for (const change of bad) refuses(() => binding.loadWeights(device, [{ ...good, ...change } as never]));
  const integers = binding.tensor(device, 'i32', [4, 4], 'row_major');
  refuses(() => binding.loadWeights(device, [{ ...good, dst: integers } as never]));
  const other = binding.openDevice({ backend: 'cpu', threads: 1, level: 'scalar' });
  const foreign = binding.tensor(other, 'f32', [4, 4], 'row_major');
  refuses(() => binding.loadWeights(device, [{ ...good, dst: foreign } as never]));
  other.close();
  const empty = binding.tensor(device, 'f32', [0, 2 ** 31 - 1], 'row_major');
  refuses(() => binding.loadWeights(device, [{ ...good, dst: empty, k: 2 ** 31 - 1, rows: 1 } as never]));
});
