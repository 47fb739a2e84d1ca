// Memory that a process keeps after its engines are gone. Vitest gives this file a process of its own.

import { fileURLToPath } from 'node:url';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, it } from 'vitest';
import { Engine } from '../../lib/index.ts';
import { native } from '../../lib/native/load.ts';

const dir = fileURLToPath(new URL('data/llama_swiftkv_g2', import.meta.url));
const MiB = 2 ** 20;

setFlagsFromString('--expose_gc');
const gc = runInNewContext('gc') as () => void;

function resident(): number {
  gc();
  return native().residentBytes();
}

it('dispose gives the resident memory of pool and weights back', async () => {
  const warm = await Engine.load(dir, { kvCacheBytes: MiB });
  await warm.dispose();
  const before = resident();
  const engine = await Engine.load(dir, { kvCacheBytes: 256 * MiB, maxModelLen: 256 });
  const loaded = resident();
  // The pool is touched at start, so that no request waits for pages or finds none.
  expect(loaded - before).toBeGreaterThan(250 * MiB);
  await engine.dispose();
  expect(resident() - before).toBeLessThan(16 * MiB);
});

/** What is resident besides the JavaScript heap, whose pages V8 keeps or returns by rules of its own. */
function residentOutsideHeap(): number {
  return resident() - getHeapStatistics().total_physical_size;
}

it('200 cycles of load, generate and dispose keep it flat', async () => {
  const cycle = async () => {
    const engine = await Engine.load(dir, { kvCacheBytes: 8 * MiB, threads: 2 });
    await engine.generate({ tokenIds: [5, 6, 7], maxTokens: 2, temperature: 0, ignoreEos: true }).result();
    await engine.dispose();
  };
  // Allocator and engine settle within about 60 cycles (45, 52, 59, 60, 60 MB at 0, 20, ... 80, and 64 at 200).
  for (let i = 0; i < 60; i++) await cycle();
  const before = residentOutsideHeap();
  const usedBefore = getHeapStatistics().used_heap_size;
  for (let i = 0; i < 140; i++) await cycle();
  // A leaked pool would be 8 MiB a cycle, leaked weights 0.2 MiB; the bound is 0.07 MiB a cycle.
  expect(residentOutsideHeap() - before).toBeLessThan(10 * MiB);
  expect(getHeapStatistics().used_heap_size - usedBefore).toBeLessThan(4 * MiB);
});
