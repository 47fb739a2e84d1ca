// Programs through the addon: results, one run at a time, cancellation, and batches that do not hold.

import { expect, test } from 'vitest';
import { binding, capacity, refuses, rejects, sumProgram, testDevice, vocab, width } from './support.ts';

const device = testDevice();

test('a program reads the batch in place and leaves its buffers to be read', async () => {
  const program = sumProgram(device, 3);
  const batch = binding.batch(device, capacity);
  batch.counts[0] = 3;
  batch.ids.set([4, 0, 2]);
  expect(await program.run(batch)).toEqual({ ms: expect.any(Number) });
  const row = (id: number) => Array.from({ length: width }, (_, i) => 3 * (id * width + i));
  expect([...program.readBuffer(4, 3)]).toEqual([...row(4), ...row(0), ...row(2)]);
  batch.ids[0] = 1;
  await program.run(batch);
  expect([...program.readBuffer(4, 1)]).toEqual(row(1));
  expect(program.workspaceBytes).toBeGreaterThan(0);
  refuses(() => program.readBuffer(4, capacity.maxRows + 1));
  refuses(() => program.readBuffer(0, 1));
  refuses(() => program.readBuffer(99, 1));
  program.dispose();
  batch.dispose();
});

test('a batch that would lead a kernel astray is refused and harms nothing', async () => {
  const program = sumProgram(device);
  const batch = binding.batch(device, capacity);
  for (const id of [-1, vocab, 2 ** 31 - 1]) {
    batch.counts[0] = 1;
    batch.ids[0] = id;
    await rejects(program.run(batch), 'ERR_INTERNAL');
  }
  for (const rows of [-1, capacity.maxRows + 1, 2 ** 31 - 1]) {
    batch.counts[0] = rows;
    await rejects(program.run(batch), 'ERR_INTERNAL');
  }
  batch.counts[0] = 1;
  batch.ids[0] = 0;
  await program.run(batch);
  const other = binding.batch(device, { ...capacity, maxRows: capacity.maxRows + 1 });
  await rejects(program.run(other), 'ERR_INVALID_ARGUMENT');
});

test('one run at a time; the second is refused, the first ends well', async () => {
  const program = sumProgram(device, 2000);
  const batch = binding.batch(device, capacity);
  batch.counts[0] = capacity.maxRows;
  const first = program.run(batch);
  await rejects(program.run(batch), 'ERR_INVALID_ARGUMENT');
  refuses(() => program.readBuffer(4, 1));
  await first;
  await program.run(batch);
});

test('cancel and dispose end a run early with ERR_ABORTED', async () => {
  const program = sumProgram(device, 20_000);
  const batch = binding.batch(device, capacity);
  batch.counts[0] = capacity.maxRows;
  program.cancel();
  for (const wait of [0, 1, 5, 20]) {
    const run = program.run(batch);
    await new Promise((resolve) => setTimeout(resolve, wait));
    program.cancel();
    await rejects(run, 'ERR_ABORTED');
  }
  const run = program.run(batch);
  program.dispose();
  await rejects(run, 'ERR_ABORTED');
});

test('the event loop turns while a step runs', async () => {
  const program = sumProgram(device, 5000);
  const batch = binding.batch(device, capacity);
  batch.counts[0] = capacity.maxRows;
  let turns = 0;
  let running = true;
  const run = program.run(batch).finally(() => {
    running = false;
  });
  while (running) {
    await new Promise((resolve) => setImmediate(resolve));
    turns++;
  }
  await run;
  expect(turns).toBeGreaterThan(5);
});

test('programs keep what they use, and a device gives back everything', async () => {
  const own = binding.openDevice({ backend: 'cpu', threads: 1, level: 'scalar' });
  const program = sumProgram(own);
  const batch = binding.batch(own, capacity);
  batch.counts[0] = 1;
  await program.run(batch);
  own.close();
  expect(own.allocatedBytes).toBe(0);
  await rejects(program.run(batch), 'ERR_DISPOSED');
  refuses(() => program.readBuffer(4, 1), 'ERR_DISPOSED');
});

test('descriptions that do not hold say where', () => {
  const describe = (tensors: unknown[], steps: unknown[]) => () =>
    binding.program(device, { name: 'bad', capacity, tensors, steps } as never);
  expect(describe([], [{ op: 'embed', operands: { x: 3 }, attrs: {} }])).toThrowError(/step 0/);
  expect(describe([{ kind: 'batch', field: 'counts' }], [])).toThrowError(/tensors\[0\]\.field/);
  expect(describe([{ kind: 'buffer', dtype: 'f32', shape: ['Q'] }], [])).toThrowError(/tensors\[0\]\.shape\[0\]/);
  expect(describe([], [{ op: 'embed', operands: { x: -1 }, attrs: {} }])).toThrowError(/steps\[0\]\.operands\.x/);
  expect(describe([], [{ layer: 9, axis: 'T' }])).toThrowError(/layer/);
  expect(describe([], [{ layer: 0, axis: 'R' }])).toThrowError(/axis/);
  const huge = { kind: 'buffer', dtype: 'f32', shape: ['T', 2 ** 31 - 1, 2 ** 31 - 1] };
  refuses(describe([huge], []));
  refuses(describe([{ kind: 'buffer', dtype: 'f32', shape: ['T', 2 ** 31 - 1] }], []), 'ERR_OUT_OF_MEMORY');
});
