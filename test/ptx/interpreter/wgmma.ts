// Products of a warpgroup, as the part of one warp: its 16 rows. Results appear when their group is waited for ("late")
// or at once. That the four warps come together is not modelled; the host executor checks it.

import type { Landing } from './async-copy.ts';
import { bf16ToNumber } from './formats.ts';
import type { Execute } from './lanes.ts';
import type { Handlers, Operation } from './operation.ts';
import { PtxError } from './syntax.ts';
import { sumOfProducts } from './tensor-core.ts';
import type { Warp } from './warp.ts';

const depth = 16;

interface Product {
  readonly n: number;
  /** Slots of d. */
  readonly d: readonly number[];
  /** What to add to; undefined when an earlier product that is under way gives it in d. */
  readonly sums: Float32Array | undefined;
  /** A of the warp's 16 rows, from registers; else a descriptor. */
  readonly a: Float64Array | bigint;
  readonly b: bigint;
  readonly isTransposedA: boolean;
  readonly isTransposedB: boolean;
}

/** Of one warp. */
export class WarpgroupProducts {
  readonly #landing: Landing;
  #open: Product[] = [];
  #groups: Product[][] = [];
  isFenced = false;

  constructor(landing: Landing) {
    this.#landing = landing;
  }

  start(warp: Warp, product: Product): void {
    if (!this.isFenced) throw new PtxError('wgmma without wgmma.fence since registers were touched');
    if (this.#landing === 'early') {
      compute(warp, product);
      return;
    }
    this.#open.push(product);
    // Until the wait nobody may look at the accumulators.
    for (const at of product.d) warp.f32.fill(Number.NaN, at, at + 32);
  }

  isUnderWay(d: readonly number[]): boolean {
    return [...this.#groups.flat(), ...this.#open].some((p) => p.d[0] === d[0]);
  }

  commit(): void {
    this.#groups.push(this.#open);
    this.#open = [];
  }

  wait(warp: Warp, left: number): void {
    while (this.#groups.length > left) for (const product of this.#groups.shift()!) compute(warp, product);
    this.isFenced = false;
  }
}

/** Byte offset of element (row, k) of an operand: the canonical layouts of the PTX ISA. */
function offsetOf(descriptor: bigint, isTransposed: boolean, row: number, k: number): number {
  const field = (at: bigint) => Number((descriptor >> at) & 0x3fffn) << 4;
  const [start, leading, stride] = [field(0n), field(16n), field(32n)];
  const swizzle = Number(descriptor >> 62n);
  const shift = swizzle === 0 ? 0 : 4 - swizzle;
  const width = 16 << shift;
  let at = start;
  if (!isTransposed) {
    at += (row >> 3) * stride + (row & 7) * width;
    at += shift === 0 ? (k >> 3) * leading + (k & 7) * 2 : k * 2;
  } else if (shift === 0) {
    at += (row >> 3) * stride + (k >> 3) * leading + (k & 7) * 16 + (row & 7) * 2;
  } else {
    const columns = width / 2;
    at += Math.floor(row / columns) * leading + (k >> 3) * stride + (k & 7) * width + (row % columns) * 2;
  }
  return at ^ (((at >> 7) & ((1 << shift) - 1)) << 4);
}

function load(warp: Warp, descriptor: bigint, isTransposed: boolean, firstRow: number, rows: number): Float64Array {
  const { shared } = warp.block;
  const elements = new Float64Array(rows * depth);
  for (let row = 0; row < rows; row++) {
    for (let k = 0; k < depth; k++) {
      const at = offsetOf(descriptor, isTransposed, firstRow + row, k);
      shared.check(at, 2, 2);
      elements[row * depth + k] = bf16ToNumber(shared.u16[at >>> 1]!);
    }
  }
  return elements;
}

function compute(warp: Warp, { n, d, sums, a, b, isTransposedA, isTransposedB }: Product): void {
  const rows = typeof a === 'bigint' ? load(warp, a, isTransposedA, 16 * (warp.index & 3), 16) : a;
  const columns = load(warp, b, isTransposedB, 0, n);
  for (let lane = 0; lane < 32; lane++) {
    for (const [i, at] of d.entries()) {
      const row = (lane >>> 2) + 8 * ((i >>> 1) & 1);
      const column = 8 * (i >>> 2) + 2 * (lane & 3) + (i & 1);
      const sum = sums === undefined ? warp.f32[at + lane]! : sums[32 * i + lane]!;
      warp.f32[at + lane] = sumOfProducts(sum, rows, row * depth, columns, column * depth, depth, false);
    }
  }
}

/** The same in all lanes of the warp. */
function uniform(warp: Warp, op: Operation, at: number): bigint {
  const value = warp.u64[at / 2]!;
  for (let lane = 1; lane < 32; lane++) {
    if (warp.u64[at / 2 + lane] !== value) throw op.error(`lane ${lane} gives another descriptor than lane 0`);
  }
  return value;
}

function multiply(op: Operation): Execute {
  const form = /^wgmma\.mma_async\.sync\.aligned\.m64n(\d+)k16\.f32\.bf16\.bf16$/.exec(op.words.join('.'));
  if (form === null) throw op.error('not supported');
  const n = Number(form[1]);
  const { binder } = op;
  const d = binder.elements(op.operand(0)).map((e) => binder.slot(e).at);
  if (d.length !== n / 2) throw op.error('registers and shape differ');
  const first = op.operand(1);
  const aSlots = first?.kind === 'vector' ? first.elements.map((e) => binder.slot(e).at) : undefined;
  const aDescriptor = aSlots === undefined ? binder.slot(first, 2).at : 0;
  const bDescriptor = binder.slot(op.operand(2), 2).at;
  const accumulate = binder.predicate(op.operand(3));
  const immediates = op.instruction.operands.slice(4).map((o) => binder.integer(o));
  if (immediates.length !== (aSlots === undefined ? 4 : 3)) throw op.error('immediates are missing');
  if (immediates[0] !== 1 || immediates[1] !== 1) throw op.error('negated operands are not supported');
  const isTransposedA = aSlots === undefined && immediates[2] === 1;
  const isTransposedB = immediates.at(-1) === 1;
  return (warp) => {
    const adds = warp.predicate(accumulate);
    if (adds !== 0 && adds !== -1 && adds >>> 0 !== 0xffffffff) throw op.error('lanes differ in whether they add');
    let sums: Float32Array | undefined;
    if (adds === 0 || !warp.products.isUnderWay(d)) {
      sums = new Float32Array(32 * d.length);
      if (adds !== 0) for (const [i, at] of d.entries()) sums.set(warp.f32.subarray(at, at + 32), 32 * i);
    }
    const a = aSlots === undefined ? uniform(warp, op, aDescriptor) : fromRegisters(warp, aSlots);
    const b = uniform(warp, op, bDescriptor);
    warp.products.start(warp, { n, d, sums, a, b, isTransposedA, isTransposedB });
  };
}

/** The fragment of mma.m16n8k16. */
function fromRegisters(warp: Warp, slots: readonly number[]): Float64Array {
  const a = new Float64Array(16 * depth);
  for (let lane = 0; lane < 32; lane++) {
    for (const [i, at] of slots.entries()) {
      const index = ((lane >>> 2) + 8 * (i & 1)) * depth + 2 * (lane & 3) + 8 * (i >>> 1);
      a[index] = bf16ToNumber(warp.u32[at + lane]!);
      a[index + 1] = bf16ToNumber(warp.u32[at + lane]! >>> 16);
    }
  }
  return a;
}

function wgmma(op: Operation): Execute {
  switch (op.words.slice(1).join('.')) {
    case 'fence.sync.aligned':
      return (warp) => {
        warp.products.isFenced = true;
      };
    case 'commit_group.sync.aligned':
      return (warp) => warp.products.commit();
    case 'wait_group.sync.aligned': {
      const left = op.binder.integer(op.operand(0));
      return (warp) => warp.products.wait(warp, left);
    }
  }
  return multiply(op);
}

export const wgmmaHandlers: Handlers = { wgmma };
