// Replays launches that were recorded on the host executor: the PTX of the same kernel, with the same parameters and
// memory at the same addresses. What it leaves in memory is compared with what the executor left.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Dimensions } from './interpreter/block.ts';
import { bf16ToNumber } from './interpreter/formats.ts';
import { type Launch, launch, type OpcodeCounts } from './interpreter/launch.ts';
import { GlobalMemory } from './interpreter/memory.ts';
import type { Module, PtxFunction } from './interpreter/syntax.ts';
import { buildFolder, run } from './toolkit.ts';

interface RecordedMemory {
  readonly name: string;
  readonly type: 'f32' | 'bf16' | 'bytes';
  readonly address: number;
  readonly bytes: number;
  /** Offsets in the recording's bytes. */
  readonly before: number;
  readonly after: number;
}

export interface RecordedLaunch {
  readonly name: string;
  /** Distance of the kernel's function from the start of the program. */
  readonly kernel: number;
  readonly grid: Dimensions;
  readonly block: Dimensions;
  readonly sharedBytes: number;
  /** Each parameter's bytes, in hexadecimal. */
  readonly params: readonly string[];
  readonly memory: readonly RecordedMemory[];
}

export interface Recording {
  readonly launches: readonly RecordedLaunch[];
  readonly bytes: Uint8Array;
}

export function record(program: string, name: string): Recording {
  const folder = join(buildFolder, 'recordings', name.replaceAll(' ', '-'));
  mkdirSync(folder, { recursive: true });
  run(program, [name, folder]);
  const launches = JSON.parse(readFileSync(join(folder, 'launches.json'), 'utf8')) as RecordedLaunch[];
  // No Buffer, whose slices share their bytes.
  return { launches, bytes: new Uint8Array(readFileSync(join(folder, 'memory.bin'))) };
}

/** Names of the program's functions, as a reader of C++ knows them, by their distance from its start. */
export function symbolsOf(program: string): Map<number, string> {
  const symbols = new Map<number, string>();
  for (const line of run('nm', ['-C', program]).split('\n')) {
    const match = /^([0-9a-f]+) [tTwWvV] (.*)$/.exec(line);
    if (match !== null) symbols.set(Number.parseInt(match[1]!, 16), match[2]!);
  }
  return symbols;
}

export interface Kernel {
  readonly module: Module;
  readonly kernel: PtxFunction;
}

/** Every kernel of the modules by its C++ name. */
export function kernelsByName(modules: readonly Module[]): Map<string, Kernel> {
  const kernels = modules.flatMap((module) =>
    [...module.functions.values()].filter((f) => f.isKernel).map((kernel) => ({ module, kernel })),
  );
  const input = kernels.map((k) => k.kernel.name).join('\n');
  const names = execFileSync('c++filt', { input, encoding: 'utf8' }).split('\n');
  return new Map(kernels.map((k, i) => [names[i]!, k]));
}

/** Each parameter goes to the next multiple of its alignment. */
function layOut(kernel: PtxFunction, params: readonly string[]): Uint8Array {
  if (kernel.params.length !== params.length) throw new Error(`${kernel.name} has other parameters than were recorded`);
  const bytes: number[] = [];
  kernel.params.forEach((param, i) => {
    const value = Buffer.from(params[i]!, 'hex');
    if (value.length !== param.bytes)
      throw new Error(`${param.name} has ${param.bytes} bytes, recorded ${value.length}`);
    while (bytes.length % param.align !== 0) bytes.push(0);
    bytes.push(...value);
  });
  return Uint8Array.from(bytes);
}

function changed({ memory }: RecordedLaunch, content: Uint8Array): RecordedMemory[] {
  const differs = (m: RecordedMemory) => {
    for (let i = 0; i < m.bytes; i++) if (content[m.before + i] !== content[m.after + i]) return true;
    return false;
  };
  return memory.filter(differs);
}

/** Names of the memory that the executor's launch changed. */
export function changes(recorded: RecordedLaunch, content: Uint8Array): string[] {
  return changed(recorded, content).map((m) => m.name);
}

/** Whether all of it is f32 or bf16. */
export function writesNumbers(recorded: RecordedLaunch, content: Uint8Array): boolean {
  return changed(recorded, content).every((m) => m.type !== 'bytes');
}

/** When copies land, and which warp of a block goes first. */
export type Schedule = Required<Pick<Launch, 'landing' | 'order'>>;

export const late: Schedule = { landing: 'late', order: 'ascending' };
export const early: Schedule = { landing: 'early', order: 'descending' };

export interface Replay {
  readonly differences: readonly string[];
  readonly counts: OpcodeCounts;
}

/**
 * `tolerance` is relative to the largest magnitude of a memory's numbers, 0 asks for the same bits; memory that is no
 * numbers always has to have the same bits.
 */
export function replay(
  recorded: RecordedLaunch,
  content: Uint8Array,
  { module, kernel }: Kernel,
  tolerance: number,
  schedule: Schedule = late,
): Replay {
  const memory = new GlobalMemory();
  const at = (offset: number, m: RecordedMemory) => content.slice(offset, offset + m.bytes);
  for (const m of recorded.memory) memory.map(m.name, m.address, at(m.before, m));
  const counts = launch({
    module,
    kernel: kernel.name,
    grid: recorded.grid,
    block: recorded.block,
    sharedBytes: recorded.sharedBytes,
    params: layOut(kernel, recorded.params),
    memory,
    ...schedule,
  });
  const differences = recorded.memory.flatMap((m) => {
    const text = compare(memory.bytes(m.address).slice(0, m.bytes), at(m.after, m), m.type, tolerance);
    return text === undefined ? [] : [`${m.name}: ${text}`];
  });
  return { differences, counts };
}

function numbersOf(bytes: Uint8Array, type: 'f32' | 'bf16'): Float32Array {
  if (type === 'f32') return new Float32Array(bytes.buffer, 0, Math.floor(bytes.length / 4));
  return Float32Array.from(new Uint16Array(bytes.buffer), bf16ToNumber);
}

/** NaN has no bits that count. */
function compare(
  actual: Uint8Array,
  expected: Uint8Array,
  type: RecordedMemory['type'],
  tolerance: number,
): string | undefined {
  if (type === 'bytes') {
    const i = expected.findIndex((byte, index) => byte !== actual[index]);
    return i < 0 ? undefined : `byte ${i} is ${actual[i]}, on the executor ${expected[i]}`;
  }
  const a = numbersOf(actual, type);
  const e = numbersOf(expected, type);
  const largest = e.reduce((most, x) => (Number.isFinite(x) ? Math.max(most, Math.abs(x)) : most), 0);
  const i = e.findIndex((x, index) => {
    const y = a[index]!;
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) !== Number.isNaN(y);
    return x !== y && !(Math.abs(x - y) <= tolerance * largest);
  });
  return i < 0 ? undefined : `number ${i} is ${a[i]}, on the executor ${e[i]}`;
}
