// Floating-point arithmetic: f32 and f64, and the 16-bit types in pairs or alone, computed in f32 and rounded once.

import {
  addF32,
  approximate,
  flush,
  fmaF32,
  fmaF64,
  maxFloat,
  minFloat,
  mulF32,
  type Rounding,
  roundingOf,
  saturate,
} from './float-math.ts';
import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from './formats.ts';
import { type Execute, map1, map2, map3 } from './lanes.ts';
import type { Handlers, Operation } from './operation.ts';

const modifiers = ['rn', 'rz', 'rm', 'rp', 'sat', 'full', 'approx', 'ftz', 'NaN'];

/** d = f(a, ...) with the modifiers of the opcode; `f` computes one value, exactly or in f64. */
function apply(op: Operation, sources: number, f: (...x: number[]) => number): Execute {
  op.allow(...modifiers);
  const { type } = op;
  let g = f;
  if (op.has('ftz')) g = (...x) => flush(f(...x.map(flush)));
  if (op.has('sat')) {
    const inner = g;
    g = (...x) => saturate(inner(...x));
  }
  if (type.bits !== 64 && type.name !== 'f32') g = smallFloats(type.name, g);
  const refs = Array.from({ length: sources + 1 }, (_, i) => op.binder.ref(op.operand(i), type));
  const [d, a, b, c] = refs;
  if (sources === 1) return map1(d!, a!, g);
  if (sources === 2) return map2(d!, a!, b!, g);
  return map3(d!, a!, b!, c!, g);
}

function smallFloats(name: string, f: (...x: number[]) => number): (...x: number[]) => number {
  const isBf16 = name.startsWith('bf16');
  const decode = isBf16 ? bf16ToNumber : f16ToNumber;
  const encode = isBf16 ? numberToBf16 : numberToF16;
  const half = (bits: number[]) => encode(f(...bits.map((x) => decode(x & 0xffff))));
  if (!name.endsWith('x2')) return (...bits) => half(bits);
  return (...bits) => half(bits) | (half(bits.map((x) => x >>> 16)) << 16);
}

/** What f32 rounds to once, of `exact` in f64 when that has no error of its own that matters. */
type Binary = (x: number, y: number, rounding: Rounding) => number;

function binary(f32: Binary, f64: (x: number, y: number) => number) {
  return (op: Operation): Execute => {
    const rounding = roundingOf(op.words, op.instruction.line);
    if (op.type.name === 'f64') {
      if (rounding !== 'rn') throw op.error(`.${rounding} is not supported`);
      return apply(op, 2, f64);
    }
    if (op.type.name === 'f32') return apply(op, 2, (x, y) => f32(x!, y!, rounding));
    return apply(op, 2, f64);
  };
}

function fma(op: Operation): Execute {
  const rounding = roundingOf(op.words, op.instruction.line);
  if (op.type.name === 'f64') {
    if (rounding !== 'rn') throw op.error(`.${rounding} is not supported`);
    return apply(op, 3, fmaF64 as never);
  }
  if (op.type.name === 'f32' && !op.has('ftz') && !op.has('sat')) {
    return apply(op, 3, ((x: number, y: number, z: number) => fmaF32(x, y, z, rounding)) as never);
  }
  return apply(op, 3, (x, y, z) => fmaF32(x!, y!, z!, rounding));
}

/** Quotients of two f32 in f64 round to f32 as the exact ones do. */
function div(op: Operation): Execute {
  const rounding = roundingOf(op.words, op.instruction.line);
  if (rounding !== 'rn') throw op.error(`.${rounding} is not supported`);
  return apply(op, 2, (x, y) => x! / y!);
}

function extreme(f: (x: number, y: number) => number, propagating: (...x: number[]) => number) {
  return (op: Operation): Execute => {
    const sources = op.instruction.operands.length - 1;
    if (op.has('NaN')) return apply(op, sources, propagating);
    if (sources === 2) return apply(op, 2, f as never);
    return apply(op, 3, (x, y, z) => f(f(x!, y!), z!));
  };
}

function elementary(op: Operation): Execute {
  const f = approximate[op.words[0]!]!;
  const rounding = roundingOf(op.words, op.instruction.line);
  if (rounding !== 'rn') throw op.error(`.${rounding} is not supported`);
  return apply(op, 1, f as never);
}

/** Signs are bits: NaN keeps its payload, zero its sign. */
function sign(change: (bits: number) => number) {
  return (op: Operation): Execute => {
    op.allow('ftz');
    const { type, binder } = op;
    const wide = type.bits === 64;
    const [d, a] = [binder.slot(op.operand(0), wide ? 2 : 1).at, binder.slot(op.operand(1), wide ? 2 : 1).at];
    if (!wide && type.name !== 'f32') {
      const pair = type.name.endsWith('x2');
      const half = (x: number) => change((x & 0xffff) << 16) >>> 16;
      const f = pair ? (x: number) => half(x) | (half(x >>> 16) << 16) : half;
      return map1({ view: 'u32', at: d }, { view: 'u32', at: a }, f);
    }
    const stride = wide ? 2 : 1;
    return (warp, mask) => {
      const u = warp.u32;
      for (let lane = 0; lane < 32; lane++) {
        if (((mask >>> lane) & 1) === 0) continue;
        if (wide) u[d + 2 * lane] = u[a + 2 * lane]!;
        u[d + stride * lane + stride - 1] = change(u[a + stride * lane + stride - 1]!);
      }
    };
  };
}

/** The sign of a with the magnitude of b. */
function copysign(op: Operation): Execute {
  if (op.type.name !== 'f32') throw op.error('only f32 is supported');
  const [d, a, b] = [0, 1, 2].map((i) => ({ view: 'u32', at: op.binder.slot(op.operand(i)).at }) as const);
  return map2(d!, a!, b!, (x, y) => (x & 0x80000000) | (y & 0x7fffffff));
}

export const floatHandlers: Handlers = {
  add: binary(addF32, (x, y) => x + y),
  sub: binary(
    (x, y, r) => addF32(x, -y, r),
    (x, y) => x - y,
  ),
  mul: binary(mulF32, (x, y) => x * y),
  fma,
  mad: fma,
  div,
  min: extreme(minFloat, Math.min),
  max: extreme(maxFloat, Math.max),
  neg: sign((bits) => bits ^ 0x80000000),
  abs: sign((bits) => bits & 0x7fffffff),
  copysign,
  ex2: elementary,
  lg2: elementary,
  rcp: elementary,
  rsqrt: elementary,
  sqrt: elementary,
  sin: elementary,
  cos: elementary,
  tanh: elementary,
};
