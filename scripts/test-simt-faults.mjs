// Plants faults in copies of the kernels, one at a time, and demands that the tests on the host fail for the stated
// reason; the same tests must pass on the sources as they are. A fault is data (test/simt/faults/*.mjs):
//   name, class   what is wrong
//   file          the source that is changed, from the repository's root
//   text          what stands there, exactly once
//   replacement   what stands there instead
//   unit          the translation unit to compile again; by default the .cu of the same name, or the file itself
//   tests         doctest's filter of test cases
//   mode          plain, address or thread (scripts/test-simt.sh)
//   reason        a regular expression that the output of the failing test must match
// Usage: node scripts/test-simt-faults.mjs [PART OF A NAME, CLASS, FILE OR TEST]
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const processes = 2;
const secondsPerRun = 120;

const folder = join(root, 'build-simt');
const modes = {
  plain: { suffix: '', sanitizers: '' },
  address: { suffix: '_address', sanitizers: 'address,undefined' },
  thread: { suffix: '_thread', sanitizers: 'thread' },
};
const environment = {
  ...process.env,
  ASAN_OPTIONS: 'detect_stack_use_after_return=1:detect_leaks=0',
  UBSAN_OPTIONS: 'halt_on_error=1',
  TSAN_OPTIONS: 'halt_on_error=1:history_size=4',
};

/** Runs a command to its end: exit status (null after the time limit) and everything it said. */
function run(command, args, seconds = 600) {
  return new Promise((done) => {
    const child = spawn(command, args, { cwd: root, env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (data) => (output += data));
    child.stderr.on('data', (data) => (output += data));
    const timer = setTimeout(() => child.kill('SIGKILL'), seconds * 1000);
    child.on('error', (error) => done({ status: -1, output: String(error) }));
    child.on('close', (status) => {
      clearTimeout(timer);
      done({ status, output });
    });
  });
}

async function demand(command, args) {
  const { status, output } = await run(command, args, 1800);
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed:\n${output.slice(-4000)}`);
  return output;
}

async function build(mode) {
  await demand('cmake', ['-S', '.', '-B', folder, '-DSWIFTKV_SIMT=ON']);
  const target = `swiftkv_simt_tests${modes[mode].suffix}`;
  await demand('cmake', ['--build', folder, '--target', target, '-j', String(processes)]);
}

/** The compiler's arguments for a unit, without the parts that name its source and object. */
function compileArguments(mode, unit) {
  const commands = JSON.parse(readFileSync(join(folder, 'compile_commands.json'), 'utf8'));
  const target = new RegExp(`swiftkv_simt_(kernels|tests)${modes[mode].suffix}\\.dir`);
  const entry = commands.find((c) => resolve(c.directory, c.file) === join(root, unit) && target.test(c.command));
  if (!entry) throw new Error(`no command compiles ${unit} in mode ${mode}`);
  const words = entry.command.split(/\s+/);
  const kept = [];
  for (let i = 0; i < words.length; i++) {
    if (words[i] === '-o' || words[i] === '-c') i++;
    else kept.push(words[i]);
  }
  return kept.map((w) => (/^-I(?!\/)/.test(w) ? `-I${resolve(entry.directory, w.slice(2))}` : w));
}

function objectsOfTests(mode) {
  const objects = join(folder, `CMakeFiles/swiftkv_simt_tests${modes[mode].suffix}.dir/test`);
  return ['simt', 'native'].flatMap((part) =>
    readdirSync(join(objects, part))
      .filter((name) => name.endsWith('.o'))
      .map((name) => join(objects, part, name)),
  );
}

/** Compiles the changed unit, links it before everything else, and runs its tests. Null when the fault was found. */
async function plant(fault, work) {
  const source = readFileSync(join(root, fault.file), 'utf8');
  const places = source.split(fault.text).length - 1;
  if (places !== 1) return `its text stands ${places} times in ${fault.file}`;
  const unit = fault.unit ?? fault.file.replace(/\.cuh$/, '.cu');
  const copy = join(work, fault.file);
  mkdirSync(dirname(copy), { recursive: true });
  writeFileSync(
    copy,
    source.replace(fault.text, () => fault.replacement),
  );

  const object = join(work, 'changed.o');
  const [compiler, ...flags] = compileArguments(fault.mode, unit);
  const input = unit === fault.file ? copy : join(root, unit);
  // The copy is found before the original, whose own folder comes after -I for names that begin with backends/.
  const args = [
    `-I${join(work, 'csrc')}`,
    `-I${join(work, 'test/simt')}`,
    ...flags,
    '-O1',
    '-w',
    '-MMD',
    '-MF',
    `${object}.d`,
    '-c',
    input,
    '-o',
    object,
  ];
  const compiled = await run(compiler, args);
  if (compiled.status !== 0) return `does not compile:\n${compiled.output.slice(-2000)}`;

  if (!readFileSync(`${object}.d`, 'utf8').includes(copy)) return `${unit} does not include ${fault.file}`;

  const { suffix, sanitizers } = modes[fault.mode];
  const program = join(work, 'tests');
  const replaced = `${basename(unit)}.o`;
  const objects = objectsOfTests(fault.mode).filter((o) => basename(o) !== replaced);
  const libraries = [`libswiftkv_simt_kernels${suffix}.a`, 'libswiftkv_core.a'].map((name) => join(folder, name));
  const linker = compiler.endsWith('ccache') ? flags[0] : compiler;
  const sanitize = sanitizers ? [`-fsanitize=${sanitizers}`] : [];
  const linked = await run(linker, [...sanitize, '-o', program, object, ...objects, ...libraries, '-pthread', '-ldl']);
  if (linked.status !== 0) return `does not link:\n${linked.output.slice(-2000)}`;

  const tested = await run(program, ['--no-colors', '--abort-after=1', `--test-case=${fault.tests}`], secondsPerRun);
  if (tested.status === 0) return 'the tests pass all the same';
  if (tested.status === null && !fault.reason.test(tested.output)) return `no end within ${secondsPerRun} s`;
  if (!fault.reason.test(tested.output))
    return `fails for another reason than ${fault.reason}:\n${tested.output.slice(0, 3000)}`;
  return null;
}

/** The same tests on the sources as they are. */
async function control({ mode, tests }) {
  const program = join(folder, `swiftkv_simt_tests${modes[mode].suffix}`);
  const { status, output } = await run(program, ['--no-colors', `--test-case=${tests}`], secondsPerRun);
  if (status !== 0) return `fails without a fault:\n${output.slice(0, 3000)}`;
  return /test cases:\s+0 \|/.test(output) ? 'no test case has such a name' : null;
}

async function load() {
  const data = join(root, 'test/simt/faults');
  const files = readdirSync(data).filter((name) => name.endsWith('.mjs'));
  const lists = await Promise.all(files.map(async (name) => (await import(pathToFileURL(join(data, name)))).default));
  return lists.flat();
}

const wanted = process.argv[2] ?? '';
const faults = (await load()).filter((f) => `${f.name} ${f.class} ${f.file} ${f.tests}`.includes(wanted));
for (const mode of new Set(faults.map((f) => f.mode))) await build(mode);

const controls = new Map(faults.map((f) => [`${f.mode} ${f.tests}`, { mode: f.mode, tests: f.tests }]));
const work = mkdtempSync(join(tmpdir(), 'swiftkv-faults-'));
const tasks = [
  ...[...controls.values()].map((c) => ({ label: `none (${c.mode}): ${c.tests}`, go: () => control(c) })),
  ...faults.map((f, i) => ({
    label: `${f.class} (${f.mode}): ${f.name}`,
    go: () => plant(f, join(work, String(i))),
  })),
];

let passed = 0;
let failed = 0;
async function worker() {
  for (;;) {
    const task = tasks.shift();
    if (!task) return;
    const start = Date.now();
    const problem = await task.go().catch((error) => String(error.stack ?? error));
    const seconds = ((Date.now() - start) / 1000).toFixed(1);
    if (problem === null) passed++;
    else failed++;
    console.log(`${problem === null ? 'ok    ' : 'FAILED'} ${seconds.padStart(5)} s  ${task.label}`);
    if (problem !== null) console.log(`${problem}\n`);
  }
}
await Promise.all(Array.from({ length: processes }, worker));
rmSync(work, { recursive: true, force: true });
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
