// bf16 linear of ours against torch's, over the matrices of a Llama-3.2-1B, in turns:
//   node torch.mjs [--python python3] [--rows 512] [--threads 1,2] [--rounds 5] [--seconds 0.3]
// Says so and ends well where that Python has no torch.

import { spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { openDevice, ops, Tensor } from '../../dist/kernels/index.js';
import { countProcessors } from './cpu-share.mjs';
import { median, summary } from './statistics.mjs';

const { values } = parseArgs({
  options: {
    python: { type: 'string', default: 'python3' },
    rows: { type: 'string', default: '512' },
    threads: { type: 'string', default: '1,2' },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '0.3' },
  },
});
const m = Number(values.rows);
const seconds = Number(values.seconds);

/** [n, k] */
const shapes = { qkv: [3072, 2048], o: [2048, 2048], gate_up: [16384, 2048], down: [2048, 8192] };

function startTorch() {
  const child = spawn(values.python, [fileURLToPath(new URL('torch-linear.py', import.meta.url))], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error('torch-linear.py ended');
    return JSON.parse(value);
  };
  return {
    pid: child.pid,
    info: answer(),
    measure(request) {
      child.stdin.write(`${JSON.stringify(request)}\n`);
      return answer();
    },
    end: () => child.stdin.end(),
  };
}

/** Median milliseconds of one call, over `seconds`. Weights and inputs are bf16, the output too, as torch's are. */
function measureOurs({ a, w, y }) {
  const times = [];
  ops.sync.linear({ a, w, y });
  for (const end = performance.now() + 1000 * seconds; performance.now() < end || times.length < 3; ) {
    const start = performance.now();
    ops.sync.linear({ a, w, y });
    times.push(performance.now() - start);
  }
  return median(times);
}

const uniform = (count) => Float32Array.from({ length: count }, () => Math.random() - 0.5);

if (spawnSync(values.python, ['-c', 'import torch']).status !== 0) {
  console.log(`${values.python} cannot import torch: nothing to compare with (--python names another)`);
} else {
  const torch = startTorch();
  const { version, onednn } = await torch.info;
  console.log(`bf16 linear, ${m} rows, GFLOP/s: median (least to greatest) of ${values.rounds} rounds in turns.`);
  console.log(`torch ${version}, oneDNN ${onednn ? 'on' : 'off'}.\n`);
  console.log("| matrix | threads | ours | torch | ratio | others' CPU at most |");
  console.log('| --- | ---: | ---: | ---: | ---: | ---: |');
  for (const threads of values.threads.split(',').map(Number)) {
    const device = openDevice({ threads });
    for (const [name, [n, k]] of Object.entries(shapes)) {
      const a = Tensor.from(device, uniform(m * k), [m, k], { dtype: 'bf16' });
      const w = Tensor.from(device, uniform(n * k), [n, k], { dtype: 'bf16', layout: 'panels' });
      const y = Tensor.zeros(device, [m, n], { dtype: 'bf16' });
      const ours = [];
      const theirs = [];
      const count = countProcessors([torch.pid]);
      for (let round = 0; round < Number(values.rounds); round++) {
        ours.push((2e-6 * m * n * k) / measureOurs({ a, w, y }));
        theirs.push((2e-6 * m * n * k) / (await torch.measure({ m, n, k, threads, seconds })).ms);
      }
      const share = count().others;
      const text = ({ median, min, max }) => `${median.toFixed(0)} (${min.toFixed(0)} to ${max.toFixed(0)})`;
      const [us, them] = [ours, theirs].map(summary);
      const cells = [`${name} [${n}, ${k}]`, threads, text(us), text(them), (us.median / them.median).toFixed(2)];
      console.log(`| ${cells.join(' | ')} | ${share === null ? '?' : `${(100 * share).toFixed(1)}%`} |`);
      for (const tensor of [a, w, y]) tensor.dispose();
    }
    device.dispose();
  }
  torch.end();
}
