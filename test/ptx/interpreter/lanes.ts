// The same function on every active lane. A `Ref` is a register as an operation sees it: which view, and where lane 0 is.
// Numbers and BigInts have loops of their own, so that each stays fast.

import type { BigView, NumberView, ViewName } from './types.ts';
import type { Warp } from './warp.ts';

/** Executes one instruction for the lanes of `mask`. */
export type Execute = (warp: Warp, mask: number) => void;

export interface Ref {
  readonly view: ViewName;
  readonly at: number;
}

interface NumberRef {
  readonly view: NumberView;
  readonly at: number;
}

interface BigRef {
  readonly view: BigView;
  readonly at: number;
}

type Unary<In, Out> = (x: In) => Out;
type Binary<In, Out> = (x: In, y: In) => Out;
type Ternary<In, Out> = (x: In, y: In, z: In) => Out;

export function isBig(ref: Ref): ref is BigRef {
  return ref.view === 'u64' || ref.view === 'i64';
}

function numberRef(ref: Ref): NumberRef {
  if (isBig(ref)) throw new TypeError('a 64-bit integer where a number was meant');
  return ref as NumberRef;
}

export function map1(d: Ref, a: Ref, f: Unary<number, number>): Execute {
  const [dst, src] = [numberRef(d), numberRef(a)];
  return (warp, mask) => {
    const out = warp[dst.view];
    const x = warp[src.view];
    for (let lane = 0; lane < 32; lane++) {
      if ((mask >>> lane) & 1) out[dst.at + lane] = f(x[src.at + lane]!);
    }
  };
}

export function map2(d: Ref, a: Ref, b: Ref, f: Binary<number, number>): Execute {
  const [dst, first, second] = [numberRef(d), numberRef(a), numberRef(b)];
  return (warp, mask) => {
    const out = warp[dst.view];
    const x = warp[first.view];
    const y = warp[second.view];
    for (let lane = 0; lane < 32; lane++) {
      if ((mask >>> lane) & 1) out[dst.at + lane] = f(x[first.at + lane]!, y[second.at + lane]!);
    }
  };
}

export function map3(d: Ref, a: Ref, b: Ref, c: Ref, f: Ternary<number, number>): Execute {
  const [dst, first, second, third] = [numberRef(d), numberRef(a), numberRef(b), numberRef(c)];
  return (warp, mask) => {
    const out = warp[dst.view];
    const x = warp[first.view];
    const y = warp[second.view];
    const z = warp[third.view];
    for (let lane = 0; lane < 32; lane++) {
      if ((mask >>> lane) & 1) {
        out[dst.at + lane] = f(x[first.at + lane]!, y[second.at + lane]!, z[third.at + lane]!);
      }
    }
  };
}

/** The same for operations of which any operand is a 64-bit integer: rarer, and BigInts are slow anyway. */
export function mapMixed(d: Ref, sources: readonly Ref[], f: (...values: never[]) => number | bigint): Execute {
  const call = f as (...values: (number | bigint)[]) => number | bigint;
  return (warp, mask) => {
    const out = warp[d.view] as (number | bigint)[] | Warp[ViewName];
    const values: (number | bigint)[] = new Array(sources.length);
    for (let lane = 0; lane < 32; lane++) {
      if (((mask >>> lane) & 1) === 0) continue;
      for (let i = 0; i < sources.length; i++) values[i] = warp[sources[i]!.view][sources[i]!.at + lane]!;
      out[d.at + lane] = call(...values);
    }
  };
}

/** A predicate: bit per lane at word `at`; the other lanes keep theirs. */
export function setPredicate(warp: Warp, at: number, mask: number, bits: number): void {
  warp.u32[at] = (warp.u32[at]! & ~mask) | (bits & mask);
}

/** Copies `words` words per lane, bits as they are. */
export function copyWords(dst: number, src: number, words: 1 | 2): Execute {
  return (warp, mask) => {
    const u = warp.u32;
    for (let lane = 0; lane < 32; lane++) {
      if (((mask >>> lane) & 1) === 0) continue;
      if (words === 1) {
        u[dst + lane] = u[src + lane]!;
      } else {
        u[dst + 2 * lane] = u[src + 2 * lane]!;
        u[dst + 2 * lane + 1] = u[src + 2 * lane + 1]!;
      }
    }
  };
}
