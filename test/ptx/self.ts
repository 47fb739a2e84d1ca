// Runs the self-test kernels both ways: their PTX in the interpreter, their C++ on the host executor.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Landing } from './interpreter/async-copy.ts';
import { launch, type OpcodeCounts } from './interpreter/launch.ts';
import { GlobalMemory } from './interpreter/memory.ts';
import type { Module } from './interpreter/syntax.ts';
import { buildFolder, run } from './toolkit.ts';

export interface SelfTest {
  readonly name: string;
  /** The least architecture that has the instructions. */
  readonly arch: number;
  readonly blocks: number;
  readonly threads: number;
  readonly inWords: number;
  readonly outWords: number;
  readonly sharedBytes: number;
}

export function listSelfTests(program: string): SelfTest[] {
  return JSON.parse(run(program, [])) as SelfTest[];
}

/** Words of all kinds: bits at random, and floats at the edges of the small formats. */
export function inputWords(count: number, seed: number): Uint32Array {
  const words = new Uint32Array(count);
  let state = seed >>> 0 || 1;
  const next = () => {
    // xorshift32
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state;
  };
  for (let i = 0; i < count; i++) {
    const bits = next();
    // Every other word a float of moderate size, or on or next to a tie of bf16, f16 or e4m3.
    const exponent = (next() % 40) + 108;
    const ties = [0, 0x8000, 0x7fff, 0x8001, 0x1000, 0xfff, 0x1001, 0x80000, 0x7ffff, 0x80001];
    const fraction = ((bits & 0x7f0000) | ties[next() % ties.length]!) & 0x7fffff;
    words[i] = i % 2 === 0 ? bits : (bits & 0x80000000) | (exponent << 23) | fraction;
  }
  return words;
}

/** For matrix products: 16-bit floats and sums of moderate size, no NaN, of which the sums are rounded. */
export function moderateWords(count: number, seed: number): Uint32Array {
  return inputWords(count, seed).map((word, i) => {
    if (i % 10 >= 6) return (word & 0x807fffff) | ((120 + (word & 7)) << 23);
    // As bf16 and as f16: the top exponent bit clear and the next ones set.
    return (word & 0xbfffbfff) | 0x30003000;
  });
}

export function onExecutor(program: string, test: SelfTest, input: Uint32Array): Uint32Array {
  const files = [join(buildFolder, `${test.name}.in`), join(buildFolder, `${test.name}.out`)] as const;
  writeFileSync(files[0], input);
  run(program, [test.name, ...files]);
  const bytes = readFileSync(files[1]);
  return new Uint32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

export function inInterpreter(
  module: Module,
  test: SelfTest,
  input: Uint32Array,
  landing: Landing = 'late',
): { output: Uint32Array; counts: OpcodeCounts } {
  const memory = new GlobalMemory();
  const params = new BigUint64Array(2);
  const out = memory.allocate('out', 4 * test.outWords);
  params[0] = BigInt(memory.allocate('in', input));
  params[1] = BigInt(out);
  const counts = launch({
    module,
    kernel: test.name,
    grid: [test.blocks, 1, 1],
    block: [test.threads, 1, 1],
    sharedBytes: test.sharedBytes,
    params: new Uint8Array(params.buffer),
    memory,
    landing,
  });
  const bytes = memory.bytes(out);
  return {
    output: new Uint32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + 4 * test.outWords)),
    counts,
  };
}

/** The first difference, in words. */
export function difference(actual: Uint32Array, expected: Uint32Array): string {
  const at = expected.findIndex((word, i) => word !== actual[i]);
  if (at < 0) return '';
  const differing = expected.filter((word, i) => word !== actual[i]).length;
  const hex = (word: number | undefined) => `0x${(word ?? 0).toString(16).padStart(8, '0')}`;
  return `${differing} of ${expected.length} words differ; word ${at} is ${hex(actual[at])}, on the executor ${hex(expected[at])}`;
}
