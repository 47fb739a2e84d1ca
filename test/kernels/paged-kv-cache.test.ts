import { afterAll, expect, it } from 'vitest';
import { describeRows, openDevice, PagedKVCache, type PagedKVCacheOptions } from '../../lib/kernels/index.ts';

const device = openDevice({ threads: 1 });
afterAll(() => device.dispose());

const shape = { numBlocks: 5, numKvHeads: 2, headDim: 8 };

it('the pool takes exactly the bytes of the formula', () => {
  const scales = Float32Array.of(1, 2);
  const cases: [Partial<PagedKVCacheOptions>, number][] = [
    [{ dtype: 'f32' }, 2 * 16 * 8 * 4],
    [{ dtype: 'bf16' }, 2 * 16 * 8 * 2],
    [{ dtype: 'fp8_e4m3' }, 2 * 16 * 8 + 2 * 16 * 4],
    [{ dtype: 'fp8_e4m3', kScale: scales, vScale: scales }, 2 * 16 * 8],
  ];
  for (const [options, headBytes] of cases) {
    for (const numCaches of [1, 3]) {
      const kv = new PagedKVCache(device, { ...shape, ...options, numCaches });
      expect(kv.blockBytes).toBe(numCaches * 2 * headBytes);
      expect(kv.byteLength).toBe(5 * kv.blockBytes);
      expect(kv.numCaches).toBe(numCaches);
      kv.dispose();
      kv.dispose();
    }
  }
});

it('tables take blocks once, give them back, and refuse more than there are without taking any', () => {
  const kv = new PagedKVCache(device, shape);
  const [a, b] = [kv.table(17), kv.table(16)];
  expect([a.blocks.length, b.blocks.length, kv.freeBlocks]).toEqual([2, 1, 2]);
  expect(new Set([...a.blocks, ...b.blocks]).size).toBe(3);
  expect(() => b.reserve(16 * 4)).toThrow(expect.objectContaining({ code: 'ERR_CACHE_TOO_SMALL' }));
  expect(kv.freeBlocks).toBe(2);
  a.release();
  a.release();
  expect([a.blocks.length, kv.freeBlocks]).toEqual([0, 4]);
  b.reserve(16 * 5);
  expect(kv.freeBlocks).toBe(0);
  expect([...b.blocks].sort()).toEqual([0, 1, 2, 3, 4]);
  kv.dispose();
});

it('slots are block * 16 + offset, and only exist where blocks do', () => {
  const kv = new PagedKVCache(device, shape);
  kv.table(1);
  const table = kv.table(20);
  expect(table.slot(0)).toBe(table.blocks[0]! * 16);
  expect(table.slot(19)).toBe(table.blocks[1]! * 16 + 3);
  for (const position of [-1, 32]) expect(() => table.slot(position)).toThrow(/position/);
  kv.dispose();
});

it('describeRows lays sequences one after the other, empty ones included', () => {
  const kv = new PagedKVCache(device, shape);
  const [a, b] = [kv.table(18), kv.table(1)];
  const rows = describeRows(device, [
    { table: a, start: 15, length: 3 },
    { table: kv.table(0), start: 0, length: 0 },
    { table: b, start: 0, length: 1 },
  ]);
  expect([...rows.positions.toInt32Array()]).toEqual([15, 16, 17, 0]);
  expect([...rows.slots.toInt32Array()]).toEqual([a.slot(15), a.slot(16), a.slot(17), b.slot(0)]);
  expect([...rows.queryStart.toInt32Array()]).toEqual([0, 3, 3, 4]);
  expect([...rows.contextLen.toInt32Array()]).toEqual([18, 0, 1]);
  expect([...rows.tableRow.toInt32Array()]).toEqual([0, 1, 2]);
  expect([...rows.blockTables.shape]).toEqual([3, 2]);
  expect([...rows.blockTables.toInt32Array()]).toEqual([...a.blocks, 0, 0, ...b.blocks, 0]);
  rows[Symbol.dispose]();
  kv.dispose();
});

it.each([
  ['no blocks', { numBlocks: 0 }],
  ['no heads', { numKvHeads: 0 }],
  ['static scales on f32', { kScale: new Float32Array(2), vScale: new Float32Array(2) }],
  ['scales for k only', { dtype: 'fp8_e4m3', kScale: new Float32Array(2) }],
  [
    'scales for another number of heads',
    { dtype: 'fp8_e4m3', kScale: new Float32Array(3), vScale: new Float32Array(3) },
  ],
] as [string, Partial<PagedKVCacheOptions>][])('refuses %s', (_, options) => {
  expect(() => new PagedKVCache(device, { ...shape, ...options })).toThrow(
    expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }),
  );
});
