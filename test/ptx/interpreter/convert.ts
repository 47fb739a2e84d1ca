// cvt, and mov with its packing and unpacking of vectors.

import { bigToF32, flush, type Rounding, roundingOf, saturate } from './float-math.ts';
import {
  bf16ToNumber,
  e4m3ToNumber,
  f16ToNumber,
  numberToBf16,
  numberToE4m3,
  numberToF16,
  roundTiesToEven,
} from './formats.ts';
import { copyWords, type Execute, map1, map2, mapMixed, setPredicate } from './lanes.ts';
import type { Handlers, Operation } from './operation.ts';
import type { Operand } from './syntax.ts';
import { findType, type Type, typeOf } from './types.ts';

const integerRoundings: Record<string, (x: number) => number> = {
  rni: roundTiesToEven,
  rzi: Math.trunc,
  rmi: Math.floor,
  rpi: Math.ceil,
};

function cvt(op: Operation): Execute {
  const types = op.words.filter((w) => findType(w) !== undefined);
  if (types.length !== 2) throw op.error('expected two types');
  op.allow('rn', 'rz', 'rm', 'rp', 'rni', 'rzi', 'rmi', 'rpi', 'sat', 'ftz', 'satfinite');
  const to = typeOf(types[0]);
  const from = typeOf(types[1]);
  if (to.name.endsWith('x2')) return pack(op, to, from);
  const convert = conversion(op, to, from);
  // A destination may be wider than its type (an f16 never is), a source too.
  const d = op.binder.slot(op.operand(0), to.bits === 64 ? 2 : 1);
  const s = op.binder.slot(op.operand(1), from.bits === 64 ? 2 : 1);
  const isWide = s.words === 2 && from.bits < 64;
  if (
    (d.words === 2) !== (to.bits === 64) ||
    (from.bits === 64 && s.words !== 2) ||
    (isWide && from.kind === 'float')
  ) {
    throw op.error('registers of other widths than the types');
  }
  const dst = { view: to.view, at: d.at / d.words };
  if (isWide) {
    // Of such a source the low word counts. A lane's two words lie side by side, so that only whole values are in steps
    // of a lane.
    const low = (x: bigint) => Number(from.kind === 'signed' ? BigInt.asIntN(32, x) : BigInt.asUintN(32, x));
    return mapMixed(dst, [{ view: 'u64', at: s.at / 2 }], ((x: bigint) => convert(low(x))) as never);
  }
  const src = { view: from.view, at: s.at / s.words };
  if (to.view.endsWith('64') || from.view.endsWith('64')) return mapMixed(dst, [src], convert as never);
  return map1(dst, src, convert as (x: number) => number);
}

type Value = number | bigint;

/** Reads the value of a source, changes it, and makes the bits or number that the destination's view stores. */
function conversion(op: Operation, to: Type, from: Type): (x: Value) => Value {
  const read = reading(from, op);
  const integer = op.words.map((w) => integerRoundings[w]).find((f) => f !== undefined);
  if (to.kind === 'float') {
    const rounding = roundingOf(op.words, op.instruction.line);
    const write = writing(to, rounding, op);
    const isFlushed = op.has('ftz');
    const isSaturated = op.has('sat');
    return (x) => {
      let value = read(x);
      if (typeof value === 'number') {
        if (isFlushed) value = flush(value);
        // -0 and values that round to it keep their sign.
        if (integer !== undefined) value = value === 0 ? value : signed(integer(value), value);
        if (isSaturated) value = saturate(value);
      }
      return write(value);
    };
  }
  if (from.kind === 'float') {
    if (integer === undefined) throw op.error('a rounding to integer is missing');
    return (x) => clampToInteger(integer(Number(read(x))), to);
  }
  const isSaturated = op.has('sat');
  return (x) => {
    const value = read(x);
    return isSaturated ? clampToInteger(value, to) : wrapped(value, to);
  };
}

function signed(magnitude: number, like: number): number {
  return magnitude === 0 && like < 0 ? -0 : magnitude;
}

function reading(from: Type, op: Operation): (x: Value) => Value {
  if (from.name === 'f16') return (x) => f16ToNumber(Number(x));
  if (from.name === 'bf16') return (x) => bf16ToNumber(Number(x));
  if (from.kind === 'float' && from.bits < 32) throw op.error(`${from.name} is not converted alone`);
  if (from.kind === 'float' || from.bits >= 32) return (x) => x;
  const shift = 32 - from.bits;
  if (from.kind === 'signed') return (x) => (Number(x) << shift) >> shift;
  return (x) => (Number(x) << shift) >>> shift;
}

function writing(to: Type, rounding: Rounding, op: Operation): (value: Value) => Value {
  if (rounding !== 'rn' && to.name !== 'f32') throw op.error(`.${rounding} is not supported`);
  if (to.name === 'f16') return (value) => numberToF16(Number(value));
  if (to.name === 'bf16') return (value) => numberToBf16(Number(value));
  if (to.name === 'f64') return Number;
  if (to.name !== 'f32') throw op.error(`${to.name} is not supported`);
  if (rounding === 'rn') return (value) => (typeof value === 'bigint' ? bigToF32(value) : Math.fround(value));
  return (value) => {
    const nearest = Math.fround(Number(value));
    const exact = Number(value);
    if (nearest === exact || !Number.isFinite(nearest)) return nearest;
    const isAbove = nearest > exact;
    const wantsAbove = rounding === 'rp' || (rounding === 'rz' && exact < 0);
    if (isAbove === wantsAbove) return nearest;
    const ulp = 2 ** Math.max(Math.floor(Math.log2(Math.abs(exact))) - 23, -149);
    return Math.fround(nearest + (wantsAbove ? ulp : -ulp));
  };
}

function range(to: Type): { least: bigint; most: bigint } {
  if (to.kind === 'signed') return { least: -(1n << BigInt(to.bits - 1)), most: (1n << BigInt(to.bits - 1)) - 1n };
  return { least: 0n, most: (1n << BigInt(to.bits)) - 1n };
}

/** Floats out of range give the end of the range, NaN gives 0 (the top bit of 64). */
function clampToInteger(value: Value, to: Type): Value {
  const { least, most } = range(to);
  let result: bigint;
  if (Number.isNaN(value)) result = to.bits === 64 ? 1n << 63n : 0n;
  else if (value <= least) result = least;
  else if (value >= most) result = most;
  else result = BigInt(value);
  return wrapped(result, to);
}

/** As the register holds it: 8 and 16 bits of unsigned types zero-extended, of signed types in cvt sign-extended. */
function wrapped(value: Value, to: Type): Value {
  if (to.bits === 64) return BigInt(value);
  const low = typeof value === 'bigint' ? Number(BigInt.asUintN(32, value)) : value;
  if (to.bits === 32) return low;
  const shift = 32 - to.bits;
  return to.bits === 8 && to.kind === 'signed' ? (low << shift) >> shift : (low << shift) >>> shift;
}

/** Pairs: the first source is the upper half. */
function pack(op: Operation, to: Type, from: Type): Execute {
  const { binder } = op;
  const d = { view: 'u32', at: binder.slot(op.operand(0)).at } as const;
  if (from.name === 'e4m3x2' && to.name === 'f16x2') {
    const a = { view: 'u32', at: binder.slot(op.operand(1)).at } as const;
    return map1(d, a, (x) => numberToF16(e4m3ToNumber(x & 0xff)) | (numberToF16(e4m3ToNumber((x >>> 8) & 0xff)) << 16));
  }
  if (op.has('rz')) throw op.error('.rz is not supported');
  if (from.name === 'f16x2' && to.name === 'e4m3x2') {
    const a = { view: 'u32', at: binder.slot(op.operand(1)).at } as const;
    return map1(d, a, (x) => numberToE4m3(f16ToNumber(x & 0xffff)) | (numberToE4m3(f16ToNumber(x >>> 16)) << 8));
  }
  if (from.name !== 'f32') throw op.error(`from ${from.name} to ${to.name} is not supported`);
  const encoders: Record<string, [(x: number) => number, number]> = {
    bf16x2: [numberToBf16, 16],
    f16x2: [numberToF16, 16],
    e4m3x2: [numberToE4m3, 8],
  };
  const encoder = encoders[to.name];
  if (encoder === undefined) throw op.error(`${to.name} is not supported`);
  if (to.name === 'e4m3x2' && !op.has('satfinite')) throw op.error('expected .satfinite');
  const [encode, width] = encoder;
  const [upper, lower] = [binder.ref(op.operand(1), from), binder.ref(op.operand(2), from)];
  return map2(d, upper, lower, (high, low) => (encode(high) << width) | encode(low));
}

/** Also of predicates, of vectors to a wider register and back. */
function mov(op: Operation): Execute {
  const { binder } = op;
  const [d, s] = [op.operand(0), op.operand(1)];
  if (op.type.kind === 'predicate') {
    const dst = binder.predicate(d).at;
    const src = binder.predicate(s);
    return (warp, mask) => setPredicate(warp, dst, mask, warp.predicate(src));
  }
  if (d?.kind === 'vector' && s?.kind === 'vector') throw op.error('a vector to a vector');
  if (d?.kind === 'vector') return unpack(op, d.elements, s!);
  if (s?.kind === 'vector') return join(op, d!, s.elements);
  const words = op.type.bits === 64 ? 2 : 1;
  return copyWords(binder.typed(d, op.type).at, binder.typed(s, op.type).at, words);
}

/** Bits of an element of a vector of mov.b32 or mov.b64. */
function elementBits(op: Operation, count: number): number {
  const bits = op.type.bits / count;
  if (bits !== 32 && bits !== 16 && bits !== 8) throw op.error(`${count} elements`);
  return bits;
}

function unpack(op: Operation, elements: readonly Operand[], source: Operand): Execute {
  const bits = elementBits(op, elements.length);
  const slot = op.binder.slot(source, op.type.bits === 64 ? 2 : 1);
  const mask32 = bits === 32 ? 0xffffffff : 2 ** bits - 1;
  const outputs = elements.flatMap((e, i) => (e.kind === 'sink' ? [] : [{ at: op.binder.slot(e).at, bit: i * bits }]));
  return (warp, mask) => {
    const u = warp.u32;
    for (let lane = 0; lane < 32; lane++) {
      if (((mask >>> lane) & 1) === 0) continue;
      for (const { at, bit } of outputs) {
        u[at + lane] = (u[slot.at + slot.words * lane + (bit >>> 5)]! >>> (bit & 31)) & mask32;
      }
    }
  };
}

function join(op: Operation, target: Operand, elements: readonly Operand[]): Execute {
  const bits = elementBits(op, elements.length);
  const slot = op.binder.slot(target, op.type.bits === 64 ? 2 : 1);
  const mask32 = bits === 32 ? 0xffffffff : 2 ** bits - 1;
  const inputs = elements.map((e, i) => ({ at: op.binder.slot(e).at, bit: i * bits }));
  return (warp, mask) => {
    const u = warp.u32;
    const made: [number, number] = [0, 0];
    for (let lane = 0; lane < 32; lane++) {
      if (((mask >>> lane) & 1) === 0) continue;
      made[0] = made[1] = 0;
      for (const { at, bit } of inputs) made[(bit >>> 5) as 0 | 1] |= (u[at + lane]! & mask32) << (bit & 31);
      for (let w = 0; w < slot.words; w++) u[slot.at + slot.words * lane + w] = made[w as 0 | 1];
    }
  };
}

export const convertHandlers: Handlers = { cvt, mov };
