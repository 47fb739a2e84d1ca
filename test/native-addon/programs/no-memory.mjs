// Every entry of the addon that allocates, in an address space without room for it: a coded error, and the process lives.
// Arguments: the addon, a file for weights.

import { execFileSync } from 'node:child_process';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [addonPath, weights] = process.argv.slice(2);
const binding = createRequire(import.meta.url)(addonPath);
const MiB = 2 ** 20;
const vmSize = () => Number(/^VmSize:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;

async function code(call) {
  try {
    await call();
  } catch (error) {
    return error.code ?? String(error);
  }
  return 'done';
}

// What the calls need, made while there is room.
const open = (threads) => binding.openDevice({ backend: 'cpu', threads, level: 'scalar' });
const device = open(1);
const large = binding.tensor(device, 'f32', [1, 48 * MiB], 'row_major');
const floats = new Float32Array(32 * MiB);
const bytes = new Uint8Array(32 * MiB);
const capacity = {
  maxRows: 64,
  maxSeqs: 2,
  maxLogitRows: 4,
  maxBlocksPerSeq: 4,
  numLayers: 1,
  vocabSize: 5,
  maxTopLogprobs: 2,
  maxCopies: 2,
};
writeFileSync(weights, '');
truncateSync(weights, 192 * MiB);
const segment = { path: weights, offset: 0, dtype: 'f32', rows: 1, k: 48 * MiB, dst: large, dstRow: 0 };
const wide = (width) => ({
  name: 'wide',
  capacity,
  tensors: [
    { kind: 'buffer', dtype: 'f32', shape: ['T', width] },
    { kind: 'buffer', dtype: 'f32', shape: ['T', width] },
    { kind: 'constant', tensor: binding.tensor(device, 'f32', [width], 'row_major') },
  ],
  steps: [{ op: 'rms_norm', operands: { x: 0, w: 2, out: 1 }, attrs: { eps: 1e-5 } }],
});
const wideProgram = wide(MiB);
const narrowProgram = wide(8);
const kv = { numKvHeads: 8, headDim: 128, dtype: 'f32', scales: 'none' };
// The executor's thread and the allocators have what they need.
await large.fillRandom(1, 1);
large.readFloats();

const entries = {
  tensor: () => binding.tensor(device, 'f32', [64 * MiB], 'row_major'),
  kvPool: () => binding.kvPool(device, 4096, [kv]),
  samplerTable: () => binding.samplerTable(device, 2 ** 20, 5),
  batch: () => binding.batch(device, { ...capacity, maxBlocksPerSeq: 2 ** 26 }),
  program: () => binding.program(device, wideProgram),
  readFloats: () => large.readFloats(),
  convert: () => binding.convert(floats, 'f32'),
  convertBack: () => binding.convertBack(bytes, 'bf16'),
  loadWeights: () => binding.loadWeights(device, [segment]).promise,
  openDevice: () => open(1000),
};
const before = binding.memory().total;
execFileSync('prlimit', ['--pid', String(process.pid), `--as=${vmSize() + 40 * MiB}:`]);
for (const [name, call] of Object.entries(entries)) {
  for (let i = 0; i < 3; i++) {
    const received = await code(call);
    if (received !== 'ERR_OUT_OF_MEMORY') console.log(`${name}: ${received}`);
    const held = binding.memory().total - before;
    if (held !== 0) console.log(`${name}: ${held} bytes are held`);
  }
}
// What fits works.
const program = binding.program(device, narrowProgram);
const batch = binding.batch(device, capacity);
batch.counts.set([2]);
await program.run(batch);
await open(2).touch();
console.log('survived');
