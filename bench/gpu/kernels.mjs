// Every op on a device: time, share of the roofline of the GPU's data sheet, and linear against cuBLASLt where the backend
// uses it. bench/gpu.sh runs this; alone:
//   node bench/gpu/kernels.mjs [--device cuda] [--shape llama-3.1-8b] [--rows 1,32,512] [--contexts 2048,8192]
//     [--ms 40] [--seconds N] [--once] [--json FILE]
// A call waits for the device, so its time has the cost of a call that does nothing taken off; what is left of it on short
// kernels is noise. No case starts after --seconds. --once runs each case once and times nothing (for compute-sanitizer).

import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { kernelGroups } from '../../dist/cli/bench/ops/index.js';
import { renderTable } from '../../dist/cli/bench/output.js';
import { Workbench } from '../../dist/cli/bench/workbench.js';
import { openDevice, ops, Tensor } from '../../dist/kernels/index.js';
import { randomShapes } from '../../dist/model/random.js';
import { gpus } from '../../scripts/cuda-predict/machines.mjs';

const { values: flags } = parseArgs({
  options: {
    device: { type: 'string', default: 'cuda' },
    shape: { type: 'string', default: 'llama-3.1-8b' },
    rows: { type: 'string', default: '1,32,512' },
    contexts: { type: 'string', default: '2048,8192' },
    weights: { type: 'string', default: 'bf16,fp8' },
    ms: { type: 'string', default: '40' },
    seconds: { type: 'string', default: 'Infinity' },
    rotate: { type: 'string', default: String(256 * 2 ** 20) },
    once: { type: 'boolean', default: false },
    json: { type: 'string' },
  },
});
const list = (text) => text.split(',').map(Number);
const caseOptions = {
  rows: list(flags.rows),
  contexts: list(flags.contexts),
  weightDTypes: flags.weights.split(','),
};
const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

/** Milliseconds of calls for about so many, after two that warm up. */
function times(run, ms) {
  run();
  run();
  const samples = [];
  const end = performance.now() + ms;
  while (samples.length < 5 || (performance.now() < end && samples.length < 2000)) {
    const start = performance.now();
    run();
    samples.push(performance.now() - start);
  }
  return samples;
}

/** What the data sheet of this GPU allows; null for one that is not in the table. */
function roofline(name) {
  return Object.entries(gpus).find(([known]) => name.includes(known))?.[1] ?? null;
}

function figures(one, limits, idle) {
  const ms = Math.max(median(times(one.run, Number(flags.ms))) - idle, 1e-4);
  const least = limits && Math.max(one.flops / limits.tensor, one.bytes / limits.dram) * 1e3;
  return {
    rows: one.rows,
    context: one.context ?? null,
    us: ms * 1e3,
    tflops: one.flops / ms / 1e9,
    gigabytesPerSecond: one.bytes / ms / 1e6,
    ofRoofline: limits && least / ms,
  };
}

async function measure(device, chosen, limits) {
  let idle = 0;
  if (!flags.once) {
    const [from, to] = [Tensor.zeros(device, [0, 1]), Tensor.zeros(device, [0, 1])];
    idle = median(times(() => ops.sync.copy_rows({ in: from, out: to }), 50));
    from.dispose();
    to.dispose();
  }
  const results = [];
  for (const op of chosen) {
    for (const group of kernelGroups[op](randomShapes[flags.shape], caseOptions)) {
      const label = { op: group.op, name: group.name, dtype: group.dtype };
      if (performance.now() > Number(flags.seconds) * 1000) {
        results.push({ ...label, error: 'not measured: no time left' });
        continue;
      }
      const bench = new Workbench(device, Number(flags.rotate));
      try {
        for (const one of await group.open(bench)) {
          if (flags.once) {
            one.run();
            results.push({ ...label, rows: one.rows });
          } else {
            results.push({ ...label, ...figures(one, limits, idle) });
          }
        }
      } catch (error) {
        results.push({ ...label, error: `${error.code ?? error.name}: ${error.message}` });
      } finally {
        bench.dispose();
      }
    }
  }
  return { idleUs: idle * 1e3, results };
}

const device = openDevice({ backend: flags.device });
const info = device.info;
const name = info?.name ?? device.level;
const limits = roofline(name);
console.log(`${flags.device}: ${name}, ${device.level}; shapes of ${flags.shape}`);
if (limits === null) console.log('no data sheet for it in scripts/cuda-predict/machines.mjs: no roofline');
const { idleUs, results } = await measure(device, Object.keys(kernelGroups), limits);

// The same products by cuBLASLt, where the backend has chosen it without batch invariance.
let library = null;
if (!flags.once && flags.device !== 'cpu') {
  const other = openDevice({ backend: flags.device, batchInvariant: false });
  library = { linear: other.info.linear, reason: other.info.linearReason };
  if (library.linear !== 'swiftkv') {
    const theirs = await measure(other, ['linear'], limits);
    for (const result of results) {
      const same = theirs.results.find(
        (t) => t.op === result.op && t.name === result.name && t.dtype === result.dtype && t.rows === result.rows,
      );
      if (same?.us !== undefined) result.cublasLtUs = same.us;
    }
  }
  other.dispose();
}
device.dispose();

const failed = results.filter((r) => r.error !== undefined);
if (flags.once) {
  console.log(`${results.length - failed.length} cases ran`);
} else {
  const digits = (value) => (value === undefined || value === null ? '' : value.toPrecision(3));
  const column = (title, cell) => ({ title, align: 'right', cell });
  const columns = [
    { title: 'op', align: 'left', cell: (r) => [r.op, r.name, r.dtype].filter(Boolean).join(' ') },
    column('rows', (r) => String(r.rows)),
    column('context', (r) => String(r.context ?? '')),
    column('us', (r) => digits(r.us)),
    column('TFLOP/s', (r) => (r.tflops > 0 ? digits(r.tflops) : '')),
    column('GB/s', (r) => digits(r.gigabytesPerSecond)),
    column('of roofline', (r) => (r.ofRoofline === null ? '' : `${(r.ofRoofline * 100).toFixed(0)}%`)),
    column('of cuBLASLt', (r) => (r.cublasLtUs === undefined ? '' : `${((r.cublasLtUs / r.us) * 100).toFixed(0)}%`)),
  ];
  console.log(
    renderTable(
      columns,
      results.filter((r) => r.error === undefined),
      true,
    ),
  );
  console.log(`a call that does nothing takes ${idleUs.toFixed(1)} us, which is taken off`);
  if (library?.linear === 'swiftkv') console.log(`no comparison with cuBLASLt: ${library.reason}`);
}
for (const { op, name: which, dtype, error } of failed) console.log(`FAILED ${[op, which, dtype].join(' ')}: ${error}`);
if (flags.json) {
  writeFileSync(
    flags.json,
    `${JSON.stringify({ device: info, shape: flags.shape, idleUs, library, results }, null, 1)}\n`,
  );
}
process.exitCode = failed.length > 0 ? 1 : 0;
