// mbarriers and the bulk copies that complete on them. Their 8 bytes of shared memory are not used: a barrier is a
// state of the block, by its address.

import type { Landing } from './async-copy.ts';
import type { Execute } from './lanes.ts';
import { setPredicate } from './lanes.ts';
import { nowhere, type Place, type Region } from './memory.ts';
import type { Handlers, Operation } from './operation.ts';
import { PtxError } from './syntax.ts';
import type { Warp } from './warp.ts';

interface Mbarrier {
  readonly expected: number;
  pending: number;
  /** Announced and not landed; below zero where copies land before they are announced. */
  bytes: number;
  phase: 0 | 1;
}

interface BulkCopy {
  readonly to: Region;
  readonly toOffset: number;
  readonly from: Region;
  readonly fromOffset: number;
  readonly bytes: number;
  readonly barrier: number;
}

/** Of one block. */
export class Mbarriers {
  readonly #landing: Landing;
  readonly #barriers = new Map<number, Mbarrier>();
  readonly #copies: BulkCopy[] = [];

  constructor(landing: Landing) {
    this.#landing = landing;
  }

  init(address: number, expected: number): void {
    if (expected === 0) throw new PtxError('an mbarrier of 0 arrivals');
    this.#barriers.set(address, { expected, pending: expected, bytes: 0, phase: 0 });
  }

  arrive(address: number, bytes: number): void {
    const barrier = this.#at(address);
    if (barrier.pending === 0) throw new PtxError(`more arrivals than the ${barrier.expected} of the mbarrier`);
    barrier.pending--;
    barrier.bytes += bytes;
    this.#advance(barrier);
  }

  /** Whether the phase of this parity has ended. */
  isOver(address: number, parity: number): boolean {
    return this.#at(address).phase !== parity;
  }

  copy(copy: BulkCopy): void {
    this.#at(copy.barrier);
    if (this.#landing === 'early') {
      this.#land(copy);
    } else {
      copy.to.u8.fill(0xff, copy.toOffset, copy.toOffset + copy.bytes);
      this.#copies.push(copy);
    }
  }

  /** Called when no warp can go on otherwise; false if nothing is under way. */
  landOne(): boolean {
    const copy = this.#copies.shift();
    if (copy !== undefined) this.#land(copy);
    return copy !== undefined;
  }

  #at(address: number): Mbarrier {
    const barrier = this.#barriers.get(address);
    if (barrier === undefined) throw new PtxError(`no mbarrier was initialised at ${address}`);
    return barrier;
  }

  #land({ to, toOffset, from, fromOffset, bytes, barrier: address }: BulkCopy): void {
    to.u8.set(from.u8.subarray(fromOffset, fromOffset + bytes), toOffset);
    const barrier = this.#at(address);
    barrier.bytes -= bytes;
    this.#advance(barrier);
  }

  #advance(barrier: Mbarrier): void {
    if (barrier.pending > 0 || barrier.bytes !== 0) return;
    barrier.pending = barrier.expected;
    barrier.phase ^= 1;
  }
}

function forLanes(f: (warp: Warp, lane: number) => void): Execute {
  return (warp, mask) => {
    for (let lane = 0; lane < 32; lane++) if ((mask >>> lane) & 1) f(warp, lane);
  };
}

const place: Place = { region: nowhere, offset: 0 };

/** The shared address of a lane's mbarrier, checked. */
function barrierAddress(op: Operation, index: number): (warp: Warp, lane: number) => number {
  const address = op.binder.address(op.operand(index));
  return (warp, lane) => {
    const at = warp.address(address, lane);
    warp.locate('shared', at, 8, 8, lane, place);
    return at;
  };
}

function mbarrier(op: Operation): Execute {
  const { binder } = op;
  switch (op.words.slice(1).join('.')) {
    case 'init.shared::cta.b64': {
      const [address, count] = [barrierAddress(op, 0), binder.slot(op.operand(1)).at];
      return forLanes((warp, lane) => warp.block.mbarriers.init(address(warp, lane), warp.u32[count + lane]!));
    }
    case 'arrive.shared::cta.b64': {
      if (op.operand(0)?.kind !== 'sink') throw op.error('the state of an arrival is not supported');
      const address = barrierAddress(op, 1);
      return forLanes((warp, lane) => warp.block.mbarriers.arrive(address(warp, lane), 0));
    }
    case 'arrive.expect_tx.shared::cta.b64': {
      if (op.operand(0)?.kind !== 'sink') throw op.error('the state of an arrival is not supported');
      const [address, bytes] = [barrierAddress(op, 1), binder.slot(op.operand(2)).at];
      return forLanes((warp, lane) => warp.block.mbarriers.arrive(address(warp, lane), warp.u32[bytes + lane]!));
    }
    case 'try_wait.parity.shared::cta.b64':
      return tryWait(op);
  }
  throw op.error('not supported');
}

/** Who has to wait lets the other warps run. */
function tryWait(op: Operation): Execute {
  const p = op.binder.predicate(op.operand(0)).at;
  const [address, parity] = [barrierAddress(op, 1), op.binder.slot(op.operand(2)).at];
  return (warp, mask) => {
    let over = 0;
    for (let lane = 0; lane < 32; lane++) {
      if (((mask >>> lane) & 1) === 0) continue;
      if (warp.block.mbarriers.isOver(address(warp, lane), warp.u32[parity + lane]!)) over |= 1 << lane;
    }
    setPredicate(warp, p, mask, over);
    if (over !== (mask | 0)) warp.yields = true;
  };
}

/** cp.async.bulk [dst], [src], bytes, [mbarrier]: one copy per lane. */
export function bulkCopy(op: Operation): Execute {
  const form = 'cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes';
  if (op.words.join('.') !== form) throw op.error('not supported');
  const [to, from] = [op.binder.address(op.operand(0)), op.binder.address(op.operand(1))];
  const size = op.binder.slot(op.operand(2)).at;
  const address = barrierAddress(op, 3);
  return forLanes((warp, lane) => {
    const bytes = warp.u32[size + lane]!;
    if (bytes === 0 || bytes % 16 !== 0) throw op.error(`${bytes} bytes`);
    const barrier = address(warp, lane);
    warp.locate('shared', warp.address(to, lane), bytes, 16, lane, place);
    const target = { to: place.region, toOffset: place.offset };
    warp.locate('global', warp.address(from, lane), bytes, 16, lane, place);
    const source = { from: place.region, fromOffset: place.offset };
    warp.block.mbarriers.copy({ ...target, ...source, bytes, barrier });
  });
}

export const mbarrierHandlers: Handlers = { mbarrier };
