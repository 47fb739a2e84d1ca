// Which sequences run and which wait, both in the order in which they are served: by priority, then by arrival.

import { SwiftKVError } from '../errors.ts';
import { type BlockManager, blocksFor } from './block-manager.ts';
import type { Sequence, SequenceState } from './sequence.ts';

/** Whether `a` is served before `b`. */
export function isBefore(a: Sequence, b: Sequence): boolean {
  return a.priority !== b.priority ? a.priority > b.priority : a.arrival < b.arrival;
}

export class SequenceLists {
  readonly running: Sequence[] = [];
  readonly waiting: Sequence[] = [];
  numPreemptions = 0;

  private readonly blocks: BlockManager;
  private readonly maxSeqs: number;
  private arrivals = 0;
  /** A slot given back during a step is taken at the earliest when the next one is planned. */
  private readonly freeSlots: number[] = [];

  constructor(blocks: BlockManager, maxSeqs: number) {
    this.blocks = blocks;
    this.maxSeqs = maxSeqs;
    for (let slot = maxSeqs - 1; slot >= 0; slot--) this.freeSlots.push(slot);
  }

  get numFreeSlots(): number {
    return this.freeSlots.length;
  }

  get numPaused(): number {
    return count(this.running, isPaused) + count(this.waiting, isPaused);
  }

  /** Requests that wait, the answers to one prompt counted once. */
  get numWaitingRequests(): number {
    return count(this.waiting, (s) => s.group === null || s.group.members[0] === s);
  }

  enqueue(sequence: Sequence): void {
    sequence.arrival = this.arrivals++;
    insert(this.waiting, sequence);
  }

  /** A waiting sequence, whose table has got its room, takes a slot; `computed` of its tokens are in the cache. */
  start(sequence: Sequence, computed: number): void {
    this.waiting.splice(this.waiting.indexOf(sequence), 1);
    sequence.slot = this.freeSlots.pop()!;
    sequence.state = 'running';
    sequence.samplerSet = false;
    sequence.numComputed = Math.max(computed, sequence.startAt);
    if (sequence.numPreemptions === 0) sequence.cachedTokens = computed;
    insert(this.running, sequence);
  }

  /** A running sequence gives everything back and will be computed again. */
  preempt(sequence: Sequence): void {
    this.running.splice(this.running.indexOf(sequence), 1);
    this.release(sequence);
    sequence.numComputed = 0;
    sequence.state = 'waiting';
    sequence.numPreemptions++;
    this.numPreemptions++;
    insert(this.waiting, sequence);
  }

  end(sequence: Sequence, state: SequenceState): void {
    const list = sequence.state === 'running' ? this.running : this.waiting;
    list.splice(list.indexOf(sequence), 1);
    if (sequence.state === 'running') this.release(sequence);
    sequence.state = state;
  }

  /**
   * Recounts blocks and slots and checks order and states.
   * @throws ERR_INTERNAL naming the first contradiction
   */
  checkIntegrity(): void {
    const { running, waiting, freeSlots, maxSeqs } = this;
    this.blocks.checkIntegrity([...running, ...waiting].map((s) => s.table));
    for (const list of [running, waiting]) {
      for (let i = 1; i < list.length; i++) {
        if (!isBefore(list[i - 1]!, list[i]!)) throw defect(`sequence ${list[i]!.arrival} is out of order`);
      }
    }
    const slots = [...freeSlots, ...running.map((s) => s.slot)];
    if (new Set(slots).size !== maxSeqs || slots.length !== maxSeqs) {
      throw defect(`slots are ${slots.sort((a, b) => a - b).join(' ')}`);
    }
    for (const s of running) {
      if (s.state !== 'running') throw defect(`a sequence among the running ones is ${s.state}`);
      if (s.numComputed > s.length || s.table.count < blocksFor(s.numComputed)) {
        throw defect(`${s.numComputed} tokens computed of ${s.length}, with ${s.table.count} blocks`);
      }
    }
    for (const s of waiting) {
      if (s.state !== 'waiting' || s.slot !== -1 || s.table.count !== 0 || s.numComputed !== 0) {
        throw defect(`a waiting sequence is ${s.state} with slot ${s.slot} and ${s.table.count} blocks`);
      }
    }
  }

  private release(sequence: Sequence): void {
    this.blocks.release(sequence.table);
    this.freeSlots.push(sequence.slot);
    sequence.slot = -1;
  }
}

/** Most arrive last, so the search begins there. */
function insert(list: Sequence[], sequence: Sequence): void {
  let at = list.length;
  while (at > 0 && isBefore(sequence, list[at - 1]!)) at--;
  list.splice(at, 0, sequence);
}

function isPaused(sequence: Sequence): boolean {
  return sequence.paused;
}

function count(list: readonly Sequence[], is: (sequence: Sequence) => boolean): number {
  let n = 0;
  for (const sequence of list) if (is(sequence)) n++;
  return n;
}

function defect(what: string): SwiftKVError {
  return new SwiftKVError('ERR_INTERNAL', `Scheduler: ${what}`);
}
