// cp.async: copies from global to shared memory that may land at any time until their group is waited for. "late" lands
// them in the wait, "early" at once: kernels must be right under both.

import type { Execute } from './lanes.ts';
import { bulkCopy } from './mbarrier.ts';
import { nowhere, type Place, type Region } from './memory.ts';
import type { Handlers, Operation } from './operation.ts';
import type { Warp } from './warp.ts';

export type Landing = 'early' | 'late';

interface Copy {
  readonly to: Region;
  readonly toOffset: number;
  readonly from: Region;
  readonly fromOffset: number;
  /** Bytes to write, of which the first `read` are copied and the others zero. */
  readonly bytes: number;
  readonly read: number;
}

export class AsyncCopies {
  readonly #landing: Landing;
  /** Per lane: copies of no group yet, and the groups under way, oldest first. */
  readonly #open: Copy[][] = Array.from({ length: 32 }, () => []);
  readonly #groups: Copy[][][] = Array.from({ length: 32 }, () => []);

  constructor(landing: Landing) {
    this.#landing = landing;
  }

  start(lane: number, copy: Copy): void {
    if (this.#landing === 'early') {
      land(copy);
    } else {
      // Nobody may read what was there before, as the copy might have landed.
      copy.to.u8.fill(0xff, copy.toOffset, copy.toOffset + copy.bytes);
      this.#open[lane]!.push(copy);
    }
  }

  commit(lane: number): void {
    this.#groups[lane]!.push(this.#open[lane]!);
    this.#open[lane] = [];
  }

  /** Until at most `left` groups are under way. */
  wait(lane: number, left: number): void {
    const groups = this.#groups[lane]!;
    while (groups.length > left) groups.shift()!.forEach(land);
  }

  waitAll(lane: number): void {
    this.wait(lane, 0);
    this.#open[lane]!.forEach(land);
    this.#open[lane] = [];
  }
}

function land({ to, toOffset, from, fromOffset, bytes, read }: Copy): void {
  to.u8.fill(0, toOffset + read, toOffset + bytes);
  to.u8.set(from.u8.subarray(fromOffset, fromOffset + read), toOffset);
}

/** cp.async.{ca,cg}.shared.global [dst], [src], bytes {, bytes read} */
function start(op: Operation): Execute {
  op.allow('async', 'ca', 'cg', /^shared(::cta)?$/, 'global', /^L2::/);
  const { binder } = op;
  const to = binder.address(op.operand(0));
  const from = binder.address(op.operand(1));
  const bytes = binder.integer(op.operand(2));
  if (![4, 8, 16].includes(bytes) || (op.has('cg') && bytes !== 16)) throw op.error(`${bytes} bytes`);
  const last = op.operand(3);
  if (last?.kind === 'register' && last.type === 'pred') throw op.error('ignore-src is not supported');
  const read = last === undefined ? undefined : binder.slot(last);
  const place: Place = { region: nowhere, offset: 0 };
  return (warp, mask) => {
    for (let lane = 0; lane < 32; lane++) {
      if (((mask >>> lane) & 1) === 0) continue;
      const count = read === undefined ? bytes : warp.wide(read, lane);
      if (count > bytes) throw op.error(`reads ${count} of ${bytes} bytes`);
      warp.locate('shared', warp.address(to, lane), bytes, bytes, lane, place);
      const { region, offset } = place;
      if (count === 0) {
        warp.copies.start(lane, { to: region, toOffset: offset, from: nowhere, fromOffset: 0, bytes, read: 0 });
        continue;
      }
      warp.locate('global', warp.address(from, lane), count, bytes, lane, place);
      const source = { from: place.region, fromOffset: place.offset };
      warp.copies.start(lane, { to: region, toOffset: offset, ...source, bytes, read: count });
    }
  };
}

function forLanes(f: (warp: Warp, lane: number) => void): Execute {
  return (warp, mask) => {
    for (let lane = 0; lane < 32; lane++) if ((mask >>> lane) & 1) f(warp, lane);
  };
}

function cp(op: Operation): Execute {
  switch (op.words.slice(1).join('.')) {
    case 'async.commit_group':
      return forLanes((warp, lane) => warp.copies.commit(lane));
    case 'async.wait_group': {
      const left = op.binder.integer(op.operand(0));
      return forLanes((warp, lane) => warp.copies.wait(lane, left));
    }
    case 'async.wait_all':
      return forLanes((warp, lane) => warp.copies.waitAll(lane));
  }
  if (op.words[1] !== 'async') throw op.error('not supported');
  if (op.words[2] === 'bulk') return bulkCopy(op);
  return start(op);
}

export const asyncCopyHandlers: Handlers = { cp };
