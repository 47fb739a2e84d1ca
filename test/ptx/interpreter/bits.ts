// Bit fields, permutations, counts and packed bytes.

import { type Execute, map1, map2, map3, mapMixed } from './lanes.ts';
import type { Handlers, Operation } from './operation.ts';
import { typeOf } from './types.ts';

const b32 = typeOf('b32');
const s32 = typeOf('s32');

/** d, a, b, c as 32-bit words. */
function words(op: Operation, count: number) {
  return Array.from({ length: count }, (_, i) => op.binder.ref(op.operand(i), b32)) as [
    ReturnType<typeof op.binder.ref>,
    ...ReturnType<typeof op.binder.ref>[],
  ];
}

function lop3(op: Operation): Execute {
  if (op.has('BoolOp') || op.instruction.operands.length !== 5) throw op.error('this form is not supported');
  const [d, a, b, c] = words(op, 4);
  const table = op.binder.integer(op.operand(4));
  return map3(d, a!, b!, c!, (x, y, z) => {
    let result = 0;
    for (let row = 0; row < 8; row++) {
      if ((table >>> row) & 1) result |= (row & 4 ? x : ~x) & (row & 2 ? y : ~y) & (row & 1 ? z : ~z);
    }
    return result;
  });
}

/** Byte i of the result is byte s of the eight of b:a; with bit 3 of the selector, that byte's sign repeated. */
function prmt(op: Operation): Execute {
  if (op.words.length > 2) throw op.error('only the default mode is supported');
  const [d, a, b, c] = words(op, 4);
  return map3(d, a!, b!, c!, (x, y, selector) => {
    let result = 0;
    for (let i = 0; i < 4; i++) {
      const s = (selector >>> (4 * i)) & 0xf;
      const byte = ((s & 4 ? y : x) >>> (8 * (s & 3))) & 0xff;
      result |= (s & 8 ? (byte & 0x80 ? 0xff : 0) : byte) << (8 * i);
    }
    return result;
  });
}

/** A funnel shift of the pair b:a; .clamp limits the amount to 32, .wrap takes it modulo 32. */
function shf(op: Operation): Execute {
  op.allow('l', 'r', 'wrap', 'clamp');
  const [d, a, b, c] = words(op, 4);
  const amount = op.has('wrap') ? (n: number) => n & 31 : (n: number) => Math.min(n, 32);
  const left = (x: number, y: number, n: number) => (n === 0 ? y : n === 32 ? x : (y << n) | (x >>> (32 - n)));
  const right = (x: number, y: number, n: number) => (n === 0 ? x : n === 32 ? y : (x >>> n) | (y << (32 - n)));
  const f = op.has('l') ? left : right;
  return map3(d, a!, b!, c!, (x, y, n) => f(x, y, amount(n)));
}

/** `length` bits from `position`; signed fields repeat their last bit, which is the value's where the field passes it. */
function bfe(op: Operation): Execute {
  const { type } = op;
  const d = op.binder.ref(op.operand(0), type);
  const a = op.binder.ref(op.operand(1), type);
  const position = op.binder.ref(op.operand(2), b32);
  const length = op.binder.ref(op.operand(3), b32);
  const bits = type.bits;
  const extract = (x: bigint, at: number, count: number): bigint => {
    const [p, n] = [at & 0xff, count & 0xff];
    if (n === 0) return 0n;
    // BigInts of signed types are sign-extended without end, so shifting and cutting does what is asked.
    const kept = x >> BigInt(Math.min(p, bits));
    if (type.kind === 'signed') return BigInt.asIntN(Math.min(n, bits), kept);
    return BigInt.asUintN(Math.min(n, bits), kept);
  };
  if (bits === 64) return mapMixed(d, [a, position, length], extract);
  return mapMixed(d, [a, position, length], (x: number, p: number, n: number) => Number(extract(BigInt(x), p, n)));
}

/** b with `length` bits from `position` replaced by those of a. */
function bfi(op: Operation): Execute {
  const { type } = op;
  const [d, a, b] = [0, 1, 2].map((i) => op.binder.ref(op.operand(i), type)) as [Ref3, Ref3, Ref3];
  const position = op.binder.ref(op.operand(3), b32);
  const length = op.binder.ref(op.operand(4), b32);
  const insert = (x: bigint, y: bigint, p: number, n: number): bigint => {
    const field = BigInt.asUintN(type.bits, ((1n << BigInt(n & 0xff)) - 1n) << BigInt(p & 0xff));
    return (y & ~field) | ((x << BigInt(p & 0xff)) & field);
  };
  if (type.bits === 64) return mapMixed(d, [a, b, position, length], insert);
  return mapMixed(d, [a, b, position, length], (x: number, y: number, p: number, n: number) =>
    Number(insert(BigInt(x), BigInt(y), p, n)),
  );
}

type Ref3 = ReturnType<Operation['binder']['ref']>;

function count32(x: number): number {
  let n = 0;
  for (let rest = x >>> 0; rest !== 0; rest &= rest - 1) n++;
  return n;
}

function reversed(x: number): number {
  let result = 0;
  for (let i = 0; i < 32; i++) result |= ((x >>> i) & 1) << (31 - i);
  return result;
}

/** Of the one-operand counts: on words, and on 64 bits by their halves. */
function counting(narrow: (x: number) => number, wide: (high: number, low: number) => number) {
  return (op: Operation): Execute => {
    const { type } = op;
    const d = op.binder.ref(op.operand(0), b32);
    const a = op.binder.ref(op.operand(1), type);
    if (type.bits === 32) return map1(d, a, narrow);
    return mapMixed(d, [a], (x: bigint) => wide(Number((x >> 32n) & 0xffffffffn), Number(x & 0xffffffffn)));
  };
}

/** Position of the highest bit that differs from the sign; all ones if there is none. */
function bfind(op: Operation): Execute {
  const { type } = op;
  op.allow('shiftamt');
  if (type.bits === 64) throw op.error('64 bits are not supported');
  const d = op.binder.ref(op.operand(0), b32);
  const a = op.binder.ref(op.operand(1), type);
  const isSigned = type.kind === 'signed';
  return map1(d, a, (x) => {
    const leading = Math.clz32(isSigned && x < 0 ? ~x : x);
    if (leading === 32) return 0xffffffff;
    return op.has('shiftamt') ? leading : 31 - leading;
  });
}

/** Four products of bytes, added to c; the types say which operands are signed. */
function dp4a(op: Operation): Execute {
  const [first, second] = op.words.slice(1);
  const byte = (type: string | undefined, x: number, i: number) =>
    type === 's32' ? (x << (24 - 8 * i)) >> 24 : (x >>> (8 * i)) & 0xff;
  const [d, a, b] = words(op, 3);
  const c = op.binder.ref(op.operand(3), s32);
  return map3(d, a!, b!, c, (x, y, z) => {
    let sum = z;
    for (let i = 0; i < 4; i++) sum += byte(first, x, i) * byte(second, y, i);
    return sum;
  });
}

function brev(op: Operation): Execute {
  if (op.type.bits === 64) throw op.error('64 bits are not supported');
  const [d, a] = words(op, 2);
  return map1(d, a!, reversed);
}

/** The sum of |a - b| and c. */
function sad(op: Operation): Execute {
  const [d, a, b, c] = [0, 1, 2, 3].map((i) => op.binder.ref(op.operand(i), op.type)) as [Ref3, Ref3, Ref3, Ref3];
  return map3(d, a, b, c, (x, y, z) => Math.abs(x - y) + z);
}

function bmsk(op: Operation): Execute {
  const [d, a, b] = words(op, 3);
  const low = (n: number) => (n >= 32 ? 0xffffffff : 2 ** n - 1);
  const isWrapped = op.has('wrap');
  return map2(d, a!, b!, (x, y) => {
    const [position, width] = isWrapped ? [x & 31, y & 31] : [Math.min(x, 32), Math.min(y, 32)];
    return position >= 32 ? 0 : low(width) << position;
  });
}

export const bitHandlers: Handlers = {
  lop3,
  prmt,
  shf,
  bfe,
  bfi,
  popc: counting(count32, (high, low) => count32(high) + count32(low)),
  clz: counting(Math.clz32, (high, low) => (high === 0 ? 32 + Math.clz32(low) : Math.clz32(high))),
  bfind,
  brev,
  dp4a,
  sad,
  bmsk,
};
