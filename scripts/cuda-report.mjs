// Reports registers, shared memory, spills, occupancy and counts of instructions of every CUDA kernel on every shipped
// architecture, and fails where scripts/cuda-report/thresholds.json does not hold. Needs nvcc, no GPU. docs/cuda-report.md
//   node scripts/cuda-report.mjs [--check] [--json FILE] [--markdown FILE] [--tools DIR] [--arch sm_80,...]

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { architectures } from './cuda-report/architectures.mjs';
import { dynamicShared, shortName } from './cuda-report/names.mjs';
import { occupancy } from './cuda-report/occupancy.mjs';
import { parsePtx } from './cuda-report/parse-ptx.mjs';
import { parsePtxas } from './cuda-report/parse-ptxas.mjs';
import { parseSass } from './cuda-report/parse-sass.mjs';
import { markdown } from './cuda-report/tables.mjs';
import { unusedRules, violations } from './cuda-report/thresholds.mjs';
import { findTool, inTurns, Toolkit } from './cuda-report/toolkit.mjs';

// Kernels without launch bounds are launched with blocks of different sizes; occupancy is given for this one.
const assumedThreads = 256;

const { values: options } = parseArgs({
  options: {
    check: { type: 'boolean', default: false },
    json: { type: 'string' },
    markdown: { type: 'string' },
    tools: { type: 'string' },
    arch: { type: 'string', default: Object.keys(architectures).join() },
  },
});

const root = resolve(import.meta.dirname, '..');
const archs = options.arch.split(',');
const unknown = archs.filter((arch) => !(arch in architectures));
if (unknown.length > 0) {
  console.error(`cuda-report: expected architectures of ${Object.keys(architectures)} but received ${unknown}`);
  process.exit(2);
}
const folder = join(root, 'csrc/backends/cuda');
const sources = readdirSync(folder).filter((file) => file.endsWith('.cu'));
const jobs = archs.flatMap((arch) => sources.map((source) => ({ arch, source })));

const nvcc = findTool('nvcc');
if (nvcc === undefined) {
  console.log('cuda-report: no nvcc in PATH, CUDA_HOME or /usr/local/cuda, so nothing was compiled');
  console.log(`0 passed, 0 failed, ${jobs.length} skipped`);
  process.exit(0);
}

const toolkit = new Toolkit({ root, folder: join(root, 'build-cuda-report'), nvcc, tools: options.tools });
const launches = toolkit.launches();
const problems = [];

/** The kernels of one source on one architecture. */
async function inspect({ arch, source }) {
  try {
    const file = join(folder, source);
    const made = await toolkit.compile(file, basename(source, '.cu'), arch, architectures[arch].virtual);
    const bounds = new Map(parsePtx(made.ptx).map((kernel) => [kernel.name, kernel]));
    const sass = parseSass((await toolkit.disassemble(made.cubin)) ?? '');
    return parsePtxas(made.log).map((kernel) => {
      const { maxThreads, minBlocks, counts } = bounds.get(kernel.name);
      return { ...kernel, arch, source, maxThreads, minBlocks, counts, sass: sass[kernel.name] };
    });
  } catch (error) {
    problems.push(`${source} on ${arch}: ${error.stderr || error.message}`);
    return [];
  }
}

const started = performance.now();
const found = (await inTurns(jobs, 2, inspect)).flat();
const readable = toolkit.demangle([...new Set(found.map((kernel) => kernel.name))]);
const kernels = found.map(({ name, ...rest }) => {
  const kernel = shortName(readable.get(name), launches.tiles);
  const shared = dynamicShared(kernel, launches.shared);
  const threads = rest.maxThreads ?? assumedThreads;
  const used = { threads, registers: rest.registers, shared: rest.staticShared + (shared ?? 0) };
  const filled = occupancy(architectures[rest.arch], used);
  const launched = { threads, assumedThreads: rest.maxThreads === undefined, dynamicShared: shared };
  return { kernel, name, ...rest, ...launched, occupancy: filled };
});

const rules = JSON.parse(readFileSync(join(import.meta.dirname, 'cuda-report/thresholds.json'), 'utf8'));
let passed = 0;
for (const kernel of kernels) {
  const wrong = violations(kernel, rules);
  if (wrong.length === 0) passed++;
  else problems.push(`${kernel.kernel} on ${kernel.arch}: ${wrong.join('; ')}`);
}
for (const rule of unusedRules(kernels, rules)) problems.push(`no kernel matches the rule ${rule}`);

const report = { nvcc: toolkit.version.match(/V[\d.]+/)?.[0], sass: toolkit.nvdisasm !== undefined, kernels, problems };
if (options.json) writeFileSync(options.json, `${JSON.stringify(report, null, 1)}\n`);
if (options.markdown) writeFileSync(options.markdown, markdown(report));
if (!options.check && !options.markdown) console.log(markdown(report));
for (const problem of problems) console.log(`FAILED ${problem}`);
const seconds = ((performance.now() - started) / 1000).toFixed(1);
const machine = report.sass ? 'counted' : 'not counted, as there is no nvdisasm';
console.log(`${kernels.length} kernels of ${sources.length} sources on ${archs.length} architectures, ${seconds} s`);
console.log(`machine instructions: ${machine}`);
console.log(`${passed} passed, ${problems.length} failed`);
process.exit(problems.length > 0 ? 1 : 0);
