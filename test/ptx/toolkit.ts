// What the tests need from outside: nvcc, and the programs that run the same kernels on the host executor. Everything that
// is made lies in a build folder.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { parseModule } from './interpreter/parse.ts';
import type { Module } from './interpreter/syntax.ts';

export const root = resolve(import.meta.dirname, '../..');
export const buildFolder = join(root, 'build-ptx');

function findNvcc(): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/local/cuda/bin'];
  return folders.map((folder) => join(folder, 'nvcc')).find(existsSync);
}

export const nvcc = findNvcc();

export type Arch = '80' | '89' | '90a';

/** The PTX of a source, which may be changed first (in a copy beside which its own folder is searched). */
export function compilePtx(source: string, arch: Arch, options: { fmad?: boolean; include?: string } = {}): Module {
  return parseModule(readFileSync(ptxFile(source, arch, options), 'utf8'));
}

function ptxFile(source: string, arch: Arch, { fmad = true, include }: { fmad?: boolean; include?: string }): string {
  mkdirSync(buildFolder, { recursive: true });
  const name = source.replace(/^.*\/build-ptx\//, '').replaceAll(/[^\w.]/g, '_');
  const output = join(buildFolder, `${name}.${arch}${fmad ? '' : '.nofmad'}.ptx`);
  const folders = [...(include === undefined ? [] : [include]), join(root, 'csrc')];
  const flags = ['-ptx', '-std=c++20', '--expt-relaxed-constexpr', `-arch=compute_${arch}`, `-fmad=${fmad}`];
  // Every architecture lacks some of the kernels, so helpers go unused; the dynamic array has a type per kernel.
  const quiet = ['-diag-suppress=177', '-diag-suppress=1556'];
  run(nvcc!, [...flags, ...quiet, ...folders.flatMap((f) => ['-I', f]), resolve(root, source), '-o', output]);
  return output;
}

/** Runs a program and puts what it said into the error. */
export function run(program: string, args: readonly string[]): string {
  try {
    return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 2 ** 28 });
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string };
    throw new Error(`${program} ${args.join(' ')}\n${stdout ?? ''}${stderr ?? ''}`);
  }
}

/** Builds a program of CMakeLists.txt for the host executor and says where it is. */
export function buildProgram(target: string): string {
  if (!existsSync(join(buildFolder, 'CMakeCache.txt'))) {
    run('cmake', ['-S', root, '-B', buildFolder, '-DSWIFTKV_SIMT=ON']);
  }
  run('cmake', ['--build', buildFolder, '--target', target, '-j2']);
  return join(buildFolder, target);
}

/** A copy of the sources that a wrapper comes from, with `from` replaced by `to`; an include folder. */
export function mutatedHeaders(name: string, file: string, from: string, to: string): string {
  const text = readFileSync(join(root, 'csrc', file), 'utf8');
  if (text.split(from).length !== 2) throw new Error(`${file} does not have exactly one ${JSON.stringify(from)}`);
  const folder = join(buildFolder, 'mutated', name);
  const target = join(folder, file);
  mkdirSync(join(target, '..'), { recursive: true });
  writeFileSync(target, text.replace(from, to));
  return folder;
}
