// Predicts times of the CUDA kernels, and of steps and requests of Llama-3.1 8B and 70B, on an A100 and an H100, from what
// the kernels compute and move and from their occupancy as compiled. Writes docs/cuda-predictions.md, which states the
// assumptions. Needs nvcc (npm run cuda:report compiles first) and g++, no GPU.
// Usage: node scripts/cuda-predict.mjs [--out FILE]

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { gpus } from './cuda-predict/machines.mjs';
import { Ops } from './cuda-predict/ops.mjs';
import { document } from './cuda-predict/tables.mjs';

const root = resolve(import.meta.dirname, '..');
const folder = join(root, 'build-cuda-report');
const { values: options } = parseArgs({
  options: { out: { type: 'string', default: join(root, 'docs/cuda-predictions.md') } },
});

mkdirSync(folder, { recursive: true });
const file = join(folder, 'report.json');
const archs = Object.values(gpus).map((gpu) => gpu.arch);
const args = [join(root, 'scripts/cuda-report.mjs'), '--check', '--json', file, '--arch', archs.join()];
execFileSync(process.execPath, args, { stdio: 'inherit' });
const report = JSON.parse(readFileSync(file, 'utf8'));

const program = join(folder, 'plans');
const source = join(import.meta.dirname, 'cuda-predict/plans.cpp');
execFileSync('g++', ['-std=c++20', '-O1', '-I', join(root, 'csrc'), source, '-o', program], { stdio: 'inherit' });
const answers = new Map();
function plans(question) {
  if (!answers.has(question)) {
    answers.set(question, JSON.parse(execFileSync(program, { input: `${question}\n`, encoding: 'utf8' })));
  }
  return answers.get(question);
}

function blocksPerSm(arch) {
  return (name) => {
    const kernel = report.kernels.find((k) => k.arch === arch && k.kernel === name);
    if (kernel === undefined) throw new Error(`cuda-predict: the report has no kernel ${name} on ${arch}`);
    return kernel.occupancy.blocks;
  };
}

const text = document((gpu, model) => new Ops({ gpu, model, plans, blocksPerSm: blocksPerSm(gpu.arch) }), report.nvcc);
writeFileSync(options.out, text);
console.log(options.out);
