// What the lanes of a warp do together: shuffles, votes, reductions.

import type { Execute } from './lanes.ts';
import { setPredicate } from './lanes.ts';
import type { Handlers, Operation } from './operation.ts';
import type { Warp } from './warp.ts';

const shuffled = new Uint32Array(32);
const from = new Int32Array(32);

/** c holds the last lane of a segment and, from bit 8, the bits of the lane that say which segment. */
function sourceLane(mode: string, lane: number, b: number, c: number): number {
  const segment = (c >>> 8) & 0x1f;
  const clamp = c & 0x1f;
  const last = (lane & segment) | (clamp & ~segment);
  const first = lane & segment;
  const amount = b & 0x1f;
  switch (mode) {
    case 'up':
      return lane - amount >= last ? lane - amount : -1;
    case 'down':
      return lane + amount <= last ? lane + amount : -1;
    case 'bfly':
      return (lane ^ amount) <= last ? lane ^ amount : -1;
    default:
      return (first | (amount & ~segment)) <= last ? first | (amount & ~segment) : -1;
  }
}

function shfl(op: Operation): Execute {
  op.allow('sync', 'up', 'down', 'bfly', 'idx');
  if (op.words[1] !== 'sync') throw op.error('only .sync is supported');
  const mode = op.words[2]!;
  const { binder } = op;
  const target = op.operand(0);
  const d = binder.slot(target?.kind === 'pair' ? target.first : target).at;
  const p = target?.kind === 'pair' ? binder.predicate(target.second).at : undefined;
  const [a, b, c] = [1, 2, 3].map((i) => binder.slot(op.operand(i)).at) as [number, number, number];
  return (warp, mask) => {
    const u = warp.u32;
    let inRange = 0;
    for (let lane = 0; lane < 32; lane++) {
      if (((mask >>> lane) & 1) === 0) continue;
      const source = sourceLane(mode, lane, u[b + lane]!, u[c + lane]!);
      if (source >= 0) inRange |= 1 << lane;
      from[lane] = source < 0 ? lane : source;
      if (((mask >>> from[lane]!) & 1) === 0) throw op.error(`lane ${lane} reads lane ${source}, which is not in it`);
      shuffled[lane] = u[a + from[lane]!]!;
    }
    for (let lane = 0; lane < 32; lane++) if ((mask >>> lane) & 1) u[d + lane] = shuffled[lane]!;
    if (p !== undefined) setPredicate(warp, p, mask, inRange);
  };
}

function vote(op: Operation): Execute {
  op.allow('sync', 'all', 'any', 'uni', 'ballot');
  const { binder } = op;
  const mode = op.words[2]!;
  const a = binder.predicate(op.operand(1));
  if (mode === 'ballot') {
    const d = binder.slot(op.operand(0)).at;
    return (warp, mask) => {
      const bits = warp.predicate(a) & mask;
      for (let lane = 0; lane < 32; lane++) if ((mask >>> lane) & 1) warp.u32[d + lane] = bits;
    };
  }
  const p = binder.predicate(op.operand(0)).at;
  const holds: Record<string, (bits: number, mask: number) => boolean> = {
    all: (bits, mask) => bits === mask,
    any: (bits) => bits !== 0,
    uni: (bits, mask) => bits === 0 || bits === mask,
  };
  const test = holds[mode]!;
  return (warp, mask) => setPredicate(warp, p, mask, test(warp.predicate(a) & mask, mask | 0) ? -1 : 0);
}

/** redux.sync: one value of all lanes. */
function redux(op: Operation): Execute {
  const name = op.words[2]!;
  const isSigned = op.type.kind === 'signed';
  const reductions: Record<string, (x: number, y: number) => number> = {
    add: (x, y) => x + y,
    min: Math.min,
    max: Math.max,
    and: (x, y) => x & y,
    or: (x, y) => x | y,
    xor: (x, y) => x ^ y,
  };
  const f = reductions[name];
  if (f === undefined || op.type.kind === 'float') throw op.error('not supported');
  const [d, a] = [op.binder.slot(op.operand(0)).at, op.binder.slot(op.operand(1)).at];
  return (warp: Warp, mask) => {
    const values = isSigned ? warp.i32 : warp.u32;
    let result: number | undefined;
    for (let lane = 0; lane < 32; lane++) {
      if (((mask >>> lane) & 1) === 0) continue;
      const x = values[a + lane]!;
      result = result === undefined ? x : f(result, x);
    }
    for (let lane = 0; lane < 32; lane++) if ((mask >>> lane) & 1) warp.u32[d + lane] = result!;
  };
}

export const collectiveHandlers: Handlers = { shfl, vote, redux };
