// Integer arithmetic and logic.

import { carryChain, usesCarry } from './carry.ts';
import { type Execute, map1, map2, map3, mapMixed } from './lanes.ts';
import type { Handlers, Operation } from './operation.ts';
import type { Type } from './types.ts';

type Numeric<T> = (...values: T[]) => T;

/** One operation on numbers of up to 32 bits and on BigInts of 64. Results wrap when they are stored. */
interface Twofold {
  readonly narrow: Numeric<number>;
  readonly wide: Numeric<bigint>;
}

const binary: Record<string, Twofold> = {
  add: { narrow: (x = 0, y = 0) => x + y, wide: (x = 0n, y = 0n) => x + y },
  sub: { narrow: (x = 0, y = 0) => x - y, wide: (x = 0n, y = 0n) => x - y },
  mul: { narrow: (x = 0, y = 0) => Math.imul(x, y), wide: (x = 0n, y = 0n) => x * y },
  div: {
    narrow: (x = 0, y = 0) => (y === 0 ? -1 : Math.trunc(x / y)),
    wide: (x = 0n, y = 0n) => (y === 0n ? -1n : x / y),
  },
  rem: { narrow: (x = 0, y = 0) => (y === 0 ? x : x % y), wide: (x = 0n, y = 0n) => (y === 0n ? x : x % y) },
  min: { narrow: (x = 0, y = 0) => Math.min(x, y), wide: (x = 0n, y = 0n) => (x < y ? x : y) },
  max: { narrow: (x = 0, y = 0) => Math.max(x, y), wide: (x = 0n, y = 0n) => (x > y ? x : y) },
  and: { narrow: (x = 0, y = 0) => x & y, wide: (x = 0n, y = 0n) => x & y },
  or: { narrow: (x = 0, y = 0) => x | y, wide: (x = 0n, y = 0n) => x | y },
  xor: { narrow: (x = 0, y = 0) => x ^ y, wide: (x = 0n, y = 0n) => x ^ y },
};

const unary: Record<string, Twofold> = {
  not: { narrow: (x = 0) => ~x, wide: (x = 0n) => ~x },
  cnot: { narrow: (x = 0) => (x === 0 ? 1 : 0), wide: (x = 0n) => (x === 0n ? 1n : 0n) },
  neg: { narrow: (x = 0) => -x, wide: (x = 0n) => -x },
  abs: { narrow: (x = 0) => Math.abs(x), wide: (x = 0n) => (x < 0n ? -x : x) },
};

/** Values of 16 bits lie zero-extended: extend the sign on the way in, cut on the way out. */
function fitted(type: Type, f: Numeric<number>): Numeric<number> {
  if (type.bits === 32) return f;
  const cut = type.bits === 16 ? 0xffff : 0xff;
  const shift = 32 - type.bits;
  if (type.kind === 'signed') return (...values) => f(...values.map((x) => (x << shift) >> shift)) & cut;
  return (...values) => f(...values) & cut;
}

function twofold(op: Operation, table: Record<string, Twofold>, sources: number): Execute {
  const { words, type } = op;
  const f = table[words[0]!]!;
  const d = op.binder.ref(op.operand(0), type);
  const refs = Array.from({ length: sources }, (_, i) => op.binder.ref(op.operand(i + 1), type));
  if (type.bits === 64) return mapMixed(d, refs, f.wide as never);
  if (type.kind === 'float' || type.kind === 'predicate') throw op.error(`${type.name} here`);
  const narrow = fitted(type, f.narrow);
  return sources === 1 ? map1(d, refs[0]!, narrow) : map2(d, refs[0]!, refs[1]!, narrow);
}

const integerUnary = (op: Operation): Execute => twofold(op, unary, 1);

function integerBinary(op: Operation): Execute {
  if (usesCarry(op.words)) return carryChain(op);
  if (op.type.bits === 64 && (op.words[0] === 'add' || op.words[0] === 'sub')) return wideSum(op);
  return twofold(op, binary, 2);
}

/** 64-bit sums in two words: address arithmetic, the one hot use of 64-bit integers. */
function wideSum(op: Operation): Execute {
  const [d, a, b] = [0, 1, 2].map((i) => op.binder.slot(op.operand(i), 2).at) as [number, number, number];
  const isSub = op.words[0] === 'sub';
  return (warp, mask) => {
    const u = warp.u32;
    for (let i = 0; i < 64; i += 2) {
      if (((mask >>> (i >>> 1)) & 1) === 0) continue;
      const low = isSub ? u[a + i]! - u[b + i]! : u[a + i]! + u[b + i]!;
      const carry = low > 0xffffffff ? 1 : low < 0 ? -1 : 0;
      const high = (isSub ? u[a + i + 1]! - u[b + i + 1]! : u[a + i + 1]! + u[b + i + 1]!) + carry;
      u[d + i] = low;
      u[d + i + 1] = high;
    }
  };
}

function mul(op: Operation): Execute {
  if (op.words[1] === 'wide') return wideProduct(op, false);
  if (op.words[1] === 'hi') return highProduct(op, false);
  return twofold(op, binary, 2);
}

function mad(op: Operation): Execute {
  const { words, type } = op;
  if (usesCarry(words)) return carryChain(op);
  if (words[1] === 'wide') return wideProduct(op, true);
  if (words[1] === 'hi') return highProduct(op, true);
  const refs = [1, 2, 3].map((i) => op.binder.ref(op.operand(i), type));
  const d = op.binder.ref(op.operand(0), type);
  if (type.bits === 64) return mapMixed(d, refs, (x: bigint, y: bigint, z: bigint) => x * y + z);
  return map3(
    d,
    refs[0]!,
    refs[1]!,
    refs[2]!,
    fitted(type, (x = 0, y = 0, z = 0) => Math.imul(x, y) + z),
  );
}

/** The 64-bit product of two 32-bit values, or the 32-bit product of two of 16 bits. */
function wideProduct(op: Operation, adds: boolean): Execute {
  const { type } = op;
  const a = op.binder.ref(op.operand(1), type);
  const b = op.binder.ref(op.operand(2), type);
  if (type.bits === 16) {
    const wide: Type = { ...type, bits: 32 };
    const d = op.binder.ref(op.operand(0), wide);
    const extend = type.kind === 'signed' ? (x: number) => (x << 16) >> 16 : (x: number) => x;
    if (!adds) return map2(d, a, b, (x, y) => Math.imul(extend(x), extend(y)));
    const c = op.binder.ref(op.operand(3), wide);
    return map3(d, a, b, c, (x, y, z) => Math.imul(extend(x), extend(y)) + z);
  }
  const d = op.binder.slot(op.operand(0), 2).at;
  const c = adds ? op.binder.slot(op.operand(3), 2).at : undefined;
  return (warp, mask) => {
    const x = warp[a.view] as Uint32Array;
    const y = warp[b.view] as Uint32Array;
    const u = warp.u32;
    for (let lane = 0; lane < 32; lane++) {
      if (((mask >>> lane) & 1) === 0) continue;
      const product = x[a.at + lane]! * y[b.at + lane]!;
      let low: number;
      let high: number;
      if (Math.abs(product) <= Number.MAX_SAFE_INTEGER) {
        low = product >>> 0;
        high = Math.floor(product / 2 ** 32);
      } else {
        const exact = BigInt(x[a.at + lane]!) * BigInt(y[b.at + lane]!);
        low = Number(exact & 0xffffffffn);
        high = Number(exact >> 32n);
      }
      if (c !== undefined) {
        low += u[c + 2 * lane]!;
        high += u[c + 2 * lane + 1]! + (low > 0xffffffff ? 1 : 0);
      }
      u[d + 2 * lane] = low;
      u[d + 2 * lane + 1] = high;
    }
  };
}

function highProduct(op: Operation, adds: boolean): Execute {
  const { type } = op;
  const d = op.binder.ref(op.operand(0), type);
  const refs = (adds ? [1, 2, 3] : [1, 2]).map((i) => op.binder.ref(op.operand(i), type));
  const shift = BigInt(type.bits);
  if (type.bits === 64) return mapMixed(d, refs, (x: bigint, y: bigint, z = 0n) => ((x * y) >> shift) + z);
  return mapMixed(d, refs, (x: number, y: number, z = 0) => Number((BigInt(x) * BigInt(y)) >> shift) + z);
}

/** Amounts past the width give 0, or the sign. */
function shift(op: Operation): Execute {
  const { words, type } = op;
  const d = op.binder.ref(op.operand(0), type);
  const a = op.binder.ref(op.operand(1), type);
  const amount = { view: 'u32', at: op.binder.slot(op.operand(2)).at } as const;
  const isLeft = words[0] === 'shl';
  if (type.bits === 64) {
    if (isLeft) return mapMixed(d, [a, amount], (x: bigint, n: number) => (n > 63 ? 0n : x << BigInt(n)));
    return mapMixed(d, [a, amount], (x: bigint, n: number) => x >> BigInt(Math.min(n, 64)));
  }
  if (isLeft) return map2(d, a, amount, (x, n) => (n >= type.bits ? 0 : type.bits === 16 ? (x << n) & 0xffff : x << n));
  if (type.kind === 'signed') {
    const top = type.bits - 1;
    if (type.bits === 16) return map2(d, a, amount, (x, n) => (((x << 16) >> 16) >> Math.min(n, top)) & 0xffff);
    return map2(d, a, amount, (x, n) => x >> Math.min(n, top));
  }
  return map2(d, a, amount, (x, n) => (n >= type.bits ? 0 : x >>> n));
}

function logic(op: Operation): Execute {
  if (op.type.kind !== 'predicate') return twofold(op, binary, 2);
  const d = op.binder.predicate(op.operand(0)).at;
  const a = op.binder.predicate(op.operand(1));
  const b = op.binder.predicate(op.operand(2));
  const f = binary[op.words[0]!]!.narrow;
  return (warp, mask) => {
    const bits = f(warp.predicate(a), warp.predicate(b));
    warp.u32[d] = (warp.u32[d]! & ~mask) | (bits & mask);
  };
}

function not(op: Operation): Execute {
  if (op.type.kind !== 'predicate') return integerUnary(op);
  const d = op.binder.predicate(op.operand(0)).at;
  const a = op.binder.predicate(op.operand(1));
  return (warp, mask) => {
    warp.u32[d] = (warp.u32[d]! & ~mask) | (~warp.predicate(a) & mask);
  };
}

export const integerHandlers: Handlers = {
  add: integerBinary,
  sub: integerBinary,
  mul,
  mad,
  addc: carryChain,
  subc: carryChain,
  madc: carryChain,
  div: integerBinary,
  rem: integerBinary,
  min: integerBinary,
  max: integerBinary,
  neg: integerUnary,
  abs: integerUnary,
  and: logic,
  or: logic,
  xor: logic,
  not,
  cnot: integerUnary,
  shl: shift,
  shr: shift,
};
