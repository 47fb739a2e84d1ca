// Comparisons, predicates and selection.

import { copyWords, type Execute, isBig, type Ref, setPredicate } from './lanes.ts';
import type { Handlers, Operation } from './operation.ts';

type Compare = (x: number, y: number) => boolean;

const ordered: Record<string, Compare> = {
  eq: (x, y) => x === y,
  ne: (x, y) => x !== y,
  lt: (x, y) => x < y,
  le: (x, y) => x <= y,
  gt: (x, y) => x > y,
  ge: (x, y) => x >= y,
};

/** For unsigned integers. */
const unsignedNames: Record<string, string> = { lo: 'lt', ls: 'le', hi: 'gt', hs: 'ge' };

function comparison(op: Operation): Compare {
  const name = op.words[1]!;
  const isFloat = op.type.kind === 'float';
  if (isFloat) {
    if (name === 'num') return (x, y) => !Number.isNaN(x) && !Number.isNaN(y);
    if (name === 'nan') return (x, y) => Number.isNaN(x) || Number.isNaN(y);
    // `ne` of a NaN is false, `neu` true.
    if (name === 'ne') return (x, y) => x < y || x > y;
    if (name.length === 3 && name.endsWith('u')) {
      const inner = ordered[name.slice(0, 2)];
      if (inner !== undefined) return (x, y) => Number.isNaN(x) || Number.isNaN(y) || inner(x, y);
    }
  }
  const compare = ordered[isFloat ? name : (unsignedNames[name] ?? name)];
  if (compare === undefined) throw op.error(`the comparison ${name} is not known`);
  return compare;
}

/** Bits of the lanes for which the comparison holds. */
function comparing(op: Operation, a: Ref, b: Ref): (warp: Parameters<Execute>[0], mask: number) => number {
  const { type } = op;
  let compare = comparison(op);
  if (type.bits === 16) {
    if (type.kind === 'float') throw op.error('16-bit floats are not compared');
    if (type.kind === 'signed') {
      const inner = compare;
      compare = (x, y) => inner((x << 16) >> 16, (y << 16) >> 16);
    }
  }
  if (isBig(a)) {
    const big = compare as unknown as (x: bigint, y: bigint) => boolean;
    return (warp, mask) => {
      const x = warp[a.view];
      const y = warp[b.view as 'u64'];
      let bits = 0;
      for (let lane = 0; lane < 32; lane++) {
        if ((mask >>> lane) & 1 && big(x[a.at + lane]!, y[b.at + lane]!)) bits |= 1 << lane;
      }
      return bits;
    };
  }
  return (warp, mask) => {
    const x = warp[a.view as 'u32'];
    const y = warp[b.view as 'u32'];
    let bits = 0;
    for (let lane = 0; lane < 32; lane++) {
      if ((mask >>> lane) & 1 && compare(x[a.at + lane]!, y[b.at + lane]!)) bits |= 1 << lane;
    }
    return bits;
  };
}

const joins: Record<string, (x: number, y: number) => number> = {
  and: (x, y) => x & y,
  or: (x, y) => x | y,
  xor: (x, y) => x ^ y,
};

/** p = (a ? b) join c, q = !(a ? b) join c. */
function setp(op: Operation): Execute {
  const { binder, type } = op;
  const joinName = op.words[2]!;
  const join = joins[joinName];
  op.allow(op.words[1]!, 'ftz', ...(join === undefined ? [] : [joinName]));
  const target = op.operand(0);
  const p = binder.predicate(target?.kind === 'pair' ? target.first : target).at;
  const q = target?.kind === 'pair' ? binder.predicate(target.second).at : undefined;
  const bitsOf = comparing(op, binder.ref(op.operand(1), type), binder.ref(op.operand(2), type));
  const c = join === undefined ? undefined : binder.predicate(op.operand(3));
  return (warp, mask) => {
    const bits = bitsOf(warp, mask);
    const other = c === undefined ? 0 : warp.predicate(c);
    setPredicate(warp, p, mask, join === undefined ? bits : join(bits, other));
    if (q !== undefined) setPredicate(warp, q, mask, join === undefined ? ~bits : join(~bits, other));
  };
}

function selp(op: Operation): Execute {
  const { binder, type } = op;
  const words = type.bits === 64 ? 2 : 1;
  const [d, a, b] = [0, 1, 2].map((i) => binder.typed(op.operand(i), type).at) as [number, number, number];
  const p = binder.predicate(op.operand(3));
  const first = copyWords(d, a, words);
  const second = copyWords(d, b, words);
  return (warp, mask) => {
    const chosen = warp.predicate(p);
    // In an order that is right when d is a or b: each lane is written once.
    first(warp, mask & chosen);
    second(warp, mask & ~chosen);
  };
}

/** d = c >= 0 ? a : b. */
function slct(op: Operation): Execute {
  const words = op.words[1]?.endsWith('64') ? 2 : 1;
  const [d, a, b] = [0, 1, 2].map((i) => op.binder.slot(op.operand(i), words).at) as [number, number, number];
  const c = op.binder.ref(op.operand(3), op.type);
  const [first, second] = [copyWords(d, a, words), copyWords(d, b, words)];
  return (warp, mask) => {
    let chosen = 0;
    for (let lane = 0; lane < 32; lane++) if (warp[c.view][c.at + lane]! >= 0) chosen |= 1 << lane;
    first(warp, mask & chosen);
    second(warp, mask & ~chosen);
  };
}

/** All ones (or 1.0) where the comparison holds. */
function set(op: Operation): Execute {
  const resultType = op.words.at(-2)!;
  if (!['u32', 's32', 'f32'].includes(resultType)) throw op.error('this form is not supported');
  const d = op.binder.slot(op.operand(0)).at;
  const a = op.binder.ref(op.operand(1), op.type);
  const bitsOf = comparing(op, a, op.binder.ref(op.operand(2), op.type));
  const yes = resultType === 'f32' ? 0x3f800000 : 0xffffffff;
  return (warp, mask) => {
    const bits = bitsOf(warp, mask);
    for (let lane = 0; lane < 32; lane++) if ((mask >>> lane) & 1) warp.u32[d + lane] = (bits >>> lane) & 1 ? yes : 0;
  };
}

function testp(op: Operation): Execute {
  const tests: Record<string, (x: number) => boolean> = {
    finite: Number.isFinite,
    infinite: (x) => Math.abs(x) === Infinity,
    number: (x) => !Number.isNaN(x),
    notanumber: Number.isNaN,
  };
  const test = tests[op.words[1]!];
  if (test === undefined) throw op.error('this test is not supported');
  const p = op.binder.predicate(op.operand(0)).at;
  const a = op.binder.ref(op.operand(1), op.type);
  return (warp, mask) => {
    let bits = 0;
    for (let lane = 0; lane < 32; lane++) if (test(warp[a.view as 'f32'][a.at + lane]!)) bits |= 1 << lane;
    setPredicate(warp, p, mask, bits);
  };
}

export const compareHandlers: Handlers = { setp, selp, slct, set, testp };
