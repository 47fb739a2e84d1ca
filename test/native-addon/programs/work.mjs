// Every kind of work at once, forever: what an environment has in flight when it ends.

import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

export function loadAddon(path) {
  return createRequire(import.meta.url)(path);
}

const capacity = {
  maxRows: 64,
  maxSeqs: 1,
  maxLogitRows: 1,
  maxBlocksPerSeq: 1,
  numLayers: 1,
  vocabSize: 5,
  maxTopLogprobs: 2,
  maxCopies: 2,
};

function sumProgram(addon, device, repeats) {
  const table = addon.tensor(device, 'f32', [4, 64], 'row_major');
  const weight = addon.tensor(device, 'f32', [64, 64], 'panels');
  const linear = { op: 'linear', operands: { a: 2, w: 3, y: 4 }, attrs: { accumulate: true } };
  return addon.program(device, {
    name: 'sum',
    capacity,
    tensors: [
      { kind: 'constant', tensor: table },
      { kind: 'batch', field: 'ids' },
      { kind: 'buffer', dtype: 'f32', shape: ['T', 64] },
      { kind: 'constant', tensor: weight },
      { kind: 'buffer', dtype: 'f32', shape: ['T', 64] },
    ],
    steps: [{ op: 'embed', operands: { ids: 1, table: 0, x: 2 }, attrs: {} }, ...Array(repeats).fill(linear)],
  });
}

/** Writes the file that `startWork` loads. */
export function writeWeights(path) {
  writeFileSync(path, new Uint8Array(16 << 20));
}

/** Starts loops of fills, ops, steps and loads; `failed` is called with what none of them should ever reject with. */
export function startWork(addon, weights, failed) {
  const device = addon.openDevice({ backend: 'cpu', threads: 2, level: 'scalar' });
  const forever = async (step) => {
    for (;;) await step();
  };
  const loop = (step) => forever(step).catch(failed);

  const random = addon.tensor(device, 'bf16', [1024, 1024], 'panels');
  void loop(() => random.fillRandom(1, 1));

  const x = addon.tensor(device, 'f32', [512, 256], 'row_major');
  const w = addon.tensor(device, 'f32', [256], 'row_major');
  void loop(() => device.run('rms_norm', { x, w, out: x }, { eps: 1 }).catch(() => {}));
  void loop(() =>
    device.run('rms_norm', { x, w, out: addon.tensor(device, 'f32', [512, 256], 'row_major') }, { eps: 1 }),
  );

  const program = sumProgram(addon, device, 500);
  const batch = addon.batch(device, capacity);
  batch.counts[0] = 64;
  void loop(() => program.run(batch));

  const pool = addon.kvPool(device, 8, [{ numKvHeads: 2, headDim: 16, dtype: 'fp8_e4m3', scales: 'dynamic' }]);
  const caches = [pool.cache(0)];
  const [from, to] = [0, 1].map((block) => {
    const list = addon.tensor(device, 'i32', [1], 'row_major');
    list.writeFloats(Float32Array.of(block));
    return list;
  });
  void loop(() => device.run('copy_blocks', { from, to, caches }, {}));

  const segment = { path: weights, offset: 0, dtype: 'bf16', rows: 2048, k: 4096, dstRow: 0 };
  void loop(async () => {
    const dst = addon.tensor(device, 'f32', [2048, 4096], 'panels');
    await addon.loadWeights(device, [{ ...segment, dst }]).promise;
    dst.dispose();
  });
  return device;
}
