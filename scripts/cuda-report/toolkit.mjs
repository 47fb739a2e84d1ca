// Runs nvcc, ptxas and, where they exist, c++filt and nvdisasm. Everything that is made lies in a build folder with the
// hash of what it was made from, so that only changed sources are compiled again.

import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const large = { maxBuffer: 2 ** 29 };

/** The path of a program in PATH, then CUDA_HOME, then /usr/local/cuda; `first`: a folder to look in before. */
export function findTool(name, first) {
  const home = process.env.CUDA_HOME;
  const folders = [
    first,
    ...(process.env.PATH ?? '').split(delimiter),
    home && join(home, 'bin'),
    '/usr/local/cuda/bin',
  ];
  return folders
    .filter(Boolean)
    .map((folder) => join(folder, name))
    .find(existsSync);
}

/** A source and every header of csrc that it includes, with their texts, each once. */
export function includedFiles(source, includeFolder, read = (path) => readFileSync(path, 'utf8'), exists = existsSync) {
  const files = new Map();
  const visit = (path) => {
    if (files.has(path)) return;
    const text = read(path);
    files.set(path, text);
    for (const [, header] of text.matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)) {
      const found = join(includeFolder, header);
      if (exists(found)) visit(found);
    }
  };
  visit(source);
  return files;
}

export class Toolkit {
  constructor({ root, folder, nvcc, tools }) {
    this.root = root;
    this.folder = folder;
    this.nvcc = nvcc;
    this.ptxas = findTool('ptxas', join(nvcc, '..'));
    this.filter = findTool('c++filt');
    this.nvdisasm = findTool('nvdisasm', tools);
    this.version = execFileSync(nvcc, ['--version'], { encoding: 'utf8' });
    mkdirSync(folder, { recursive: true });
  }

  /** {ptx, log, cubin (a path)} of a source for an architecture, compiled unless that was done before. */
  async compile(source, name, arch, virtual) {
    const base = join(this.folder, `${name}.${arch}`);
    const flags = ['-ptx', '-std=c++20', '--expt-relaxed-constexpr', '-O3', `-I${join(this.root, 'csrc')}`];
    // Every architecture lacks some of the kernels, so helpers go unused; the dynamic array has a type per kernel.
    flags.push(`-arch=${virtual}`, '-diag-suppress=177,1556');
    const key = this.key(source, arch, flags.slice(1, 4));
    const made = { ptx: `${base}.ptx`, log: `${base}.log`, cubin: `${base}.cubin` };
    const fresh = existsSync(`${base}.key`) && readFileSync(`${base}.key`, 'utf8') === key;
    if (!fresh || !Object.values(made).every(existsSync)) {
      rmSync(`${base}.key`, { force: true });
      await run(this.nvcc, [...flags, source, '-o', made.ptx], large);
      const { stdout, stderr } = await run(this.ptxas, ['-v', `-arch=${arch}`, made.ptx, '-o', made.cubin], large);
      writeFileSync(made.log, stdout + stderr);
      writeFileSync(`${base}.key`, key);
    }
    return { ptx: readFileSync(made.ptx, 'utf8'), log: readFileSync(made.log, 'utf8'), cubin: made.cubin };
  }

  key(source, arch, flags) {
    const hash = createHash('sha256').update(this.version).update(arch).update(flags.join(' '));
    for (const text of includedFiles(source, join(this.root, 'csrc')).values()) hash.update('\0').update(text);
    return hash.digest('hex');
  }

  /** The machine code as text; undefined where there is no nvdisasm. */
  async disassemble(cubin) {
    return this.nvdisasm && (await run(this.nvdisasm, ['-c', cubin], large)).stdout;
  }

  /** Names as a map from mangled ones. */
  demangle(names) {
    if (this.filter === undefined || names.length === 0) return new Map(names.map((name) => [name, name]));
    const lines = execFileSync(this.filter, { input: names.join('\n'), encoding: 'utf8', ...large }).split('\n');
    return new Map(names.map((name, i) => [name, lines[i] ?? name]));
  }

  /** What launches.cpp prints: {tiles: {number: name}, shared: [[start of a name, bytes]]}. */
  launches() {
    const program = join(this.folder, 'launches');
    const source = join(this.root, 'scripts/cuda-report/launches.cpp');
    const compiler = findTool(process.env.CXX ?? 'g++') ?? 'g++';
    execFileSync(compiler, ['-std=c++20', `-I${join(this.root, 'csrc')}`, source, '-o', program], { stdio: 'pipe' });
    return parseLaunches(execFileSync(program, { encoding: 'utf8' }));
  }
}

export function parseLaunches(text) {
  const launches = { tiles: {}, shared: [] };
  for (const line of text.trim().split('\n')) {
    const [kind, name, value] = line.split('\t');
    if (kind === 'tile') launches.tiles[name] = value;
    else launches.shared.push([name, Number(value)]);
  }
  return launches;
}

/** Runs work for each item, so many at a time; results in the order of the items. */
export async function inTurns(items, atOnce, work) {
  const results = new Array(items.length);
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const i = next++;
      results[i] = await work(items[i]);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return results;
}
