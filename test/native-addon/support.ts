// What the addon's tests share: devices that are closed, coded refusals, child processes.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, expect } from 'vitest';
import type { ErrorCode } from '../../lib/errors.ts';
import type { BatchCapacity, NativeDevice, NativeProgram, NativeTensor } from '../../lib/native/binding.ts';
import { addonPlaces, native } from '../../lib/native/load.ts';

export const binding = native();

/** A device that is closed after the tests of the file. */
export function testDevice(threads = 2): NativeDevice {
  const device = binding.openDevice({ backend: 'cpu', threads, level: 'scalar' });
  afterAll(() => device.close());
  return device;
}

export function floats(device: NativeDevice, values: readonly number[], shape = [values.length]): NativeTensor {
  const tensor = binding.tensor(device, 'f32', shape, 'row_major');
  tensor.writeFloats(Float32Array.from(values));
  return tensor;
}

/** The call is refused by the addon's own check: with this code, not by a crash or a JavaScript type error. */
export function refuses(call: () => unknown, code: ErrorCode = 'ERR_INVALID_ARGUMENT'): void {
  expect(call).toThrowError(expect.objectContaining({ code }));
}

export async function rejects(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  await expect(promise).rejects.toMatchObject({ code });
}

export const capacity: BatchCapacity = {
  maxRows: 64,
  maxSeqs: 2,
  maxLogitRows: 4,
  maxBlocksPerSeq: 4,
  numLayers: 1,
  vocabSize: 5,
  maxTopLogprobs: 2,
  maxCopies: 2,
};

export const vocab = 5;
export const width = 8;

/** x = table[ids], then `repeats` times y += x I: each run leaves repeats * table[ids] in buffer 4. */
export function sumProgram(device: NativeDevice, repeats = 1): NativeProgram {
  const table = floats(
    device,
    Array.from({ length: vocab * width }, (_, i) => i),
    [vocab, width],
  );
  const identity = binding.tensor(device, 'f32', [width, width], 'panels');
  identity.writeFloats(Float32Array.from({ length: width * width }, (_, i) => (i % (width + 1) === 0 ? 1 : 0)));
  const linear = (accumulate: boolean) => ({ op: 'linear', operands: { a: 2, w: 3, y: 4 }, attrs: { accumulate } });
  return binding.program(device, {
    name: 'sum',
    capacity,
    tensors: [
      { kind: 'constant', tensor: table },
      { kind: 'batch', field: 'ids' },
      { kind: 'buffer', dtype: 'f32', shape: ['T', width] },
      { kind: 'constant', tensor: identity },
      { kind: 'buffer', dtype: 'f32', shape: ['T', width] },
    ],
    steps: [
      { op: 'embed', operands: { ids: 1, table: 0, x: 2 }, attrs: {} },
      linear(false),
      ...Array.from({ length: repeats - 1 }, () => linear(true)),
    ],
  });
}

/** The addon's file, for scripts that load it in another process. */
export const addonPath = fileURLToPath(
  addonPlaces(process.platform, process.arch)
    .map((place) => new URL(`../../${place}`, import.meta.url))
    .find((url) => existsSync(url)) ?? new URL('nowhere', import.meta.url),
);

export interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  output: string;
  ms: number;
}

/** Runs a script of programs/ in a process of its own: a crash is then a result, not the end of the test run. */
export function runProgram(script: string, ...args: string[]): Promise<Outcome> {
  const start = performance.now();
  const path = fileURLToPath(new URL(`programs/${script}`, import.meta.url));
  const child = spawn(process.execPath, [path, addonPath, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout.on('data', (text) => {
    output += text;
  });
  child.stderr.on('data', (text) => {
    output += text;
  });
  return new Promise((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal, output, ms: performance.now() - start }));
  });
}
