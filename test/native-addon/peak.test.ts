// Peaks are measured at every level, or refused by name; memory that is not there is never read.

import { describe, expect, it } from 'vitest';
import type { NativeDevice, NativeTensor, PeakKind } from '../../lib/native/binding.ts';
import { binding, rejects } from './support.ts';

const open = (level: string, threads = 1) => binding.openDevice({ backend: 'cpu', threads, level });

describe.each(binding.cpuInfo().levels)('%s', (level) => {
  it('multiplies and reads at a rate above 0 on one thread and on several', async () => {
    for (const threads of [1, 3]) {
      const device = open(level, threads);
      // No multiple of a vector, a cache line or a piece.
      const memory = binding.tensor(device, 'u8', [(1 << 20) + 13], 'row_major');
      for (const [kind, block] of [['fma_f32'], ['read', memory]] as [PeakKind, NativeTensor?][]) {
        const { perSecond } = await device.measurePeak(kind, 0.1, block);
        expect(perSecond).toBeGreaterThan(0);
        expect(Number.isFinite(perSecond)).toBe(true);
      }
      device.close();
    }
  });

  it('measures an instruction or says that the level has none', async () => {
    const device = open(level);
    for (const kind of ['dot_bf16', 'dot_int8'] as const) {
      const result = await device.measurePeak(kind, 0.1).catch((error: { code: string }) => error.code);
      if (typeof result === 'string') expect(result).toBe('ERR_UNSUPPORTED');
      else expect(result.perSecond).toBeGreaterThan(0);
    }
    device.close();
  });

  it('reads a tensor of one byte and refuses an empty one', async () => {
    const device = open(level);
    const tensor = (bytes: number) => binding.tensor(device, 'u8', [bytes], 'row_major');
    expect((await device.measurePeak('read', 0, tensor(1))).perSecond).toBeGreaterThan(0);
    await rejects(device.measurePeak('read', 0, tensor(0)), 'ERR_INVALID_ARGUMENT');
    device.close();
  });
});

describe('wrong use', () => {
  const device = open('scalar');
  const memory = binding.tensor(device, 'f32', [16], 'row_major');
  const cases: [string, (d: NativeDevice) => Promise<unknown>][] = [
    ['no kind', (d) => d.measurePeak(undefined as never, 1)],
    ['an unknown kind', (d) => d.measurePeak('fma_f64' as never, 1)],
    ['no time', (d) => d.measurePeak('fma_f32', undefined as never)],
    ['a negative time', (d) => d.measurePeak('fma_f32', -1)],
    ['a time that would never end', (d) => d.measurePeak('fma_f32', 1e9)],
    ['NaN', (d) => d.measurePeak('fma_f32', Number.NaN)],
    ['memory for a product', (d) => d.measurePeak('fma_f32', 1, memory)],
    ['a read without memory', (d) => d.measurePeak('read', 1)],
    ['memory that is no tensor', (d) => d.measurePeak('read', 1, {} as never)],
    [
      'memory of another device',
      (d) => d.measurePeak('read', 1, binding.tensor(open('scalar'), 'u8', [1], 'row_major')),
    ],
  ];
  it.each(cases)('%s is refused', (_, call) => rejects(call(device), 'ERR_INVALID_ARGUMENT'));

  it('memory disposed of meanwhile is kept until the measurement ends', async () => {
    const block = binding.tensor(device, 'u8', [1 << 20], 'row_major');
    const measuring = device.measurePeak('read', 5, block);
    block.dispose();
    expect((await measuring).perSecond).toBeGreaterThan(0);
  });

  it('a device that is closed while measurements wait rejects them', async () => {
    const closing = open('scalar');
    const measuring = Array.from({ length: 3 }, () =>
      closing.measurePeak('fma_f32', 5).catch((e: { code: string }) => e),
    );
    closing.close();
    for (const result of await Promise.all(measuring)) {
      expect('code' in result ? ['ERR_ABORTED', 'ERR_DISPOSED'].includes(result.code) : result.perSecond > 0).toBe(
        true,
      );
    }
  });
});
