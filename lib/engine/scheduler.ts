// Decides who runs and for how many tokens. A pure state machine: no time, no tensors, no promises.
//
// First come, first served. Every step, running answers get their next token first, then prompts get chunks, oldest
// first; while answers wait for it, a step's chunks are cut to fit maxStepMs. Blocks for a whole prompt are reserved at
// admission; when an answer needs a block and none is free, the youngest sequence gives all of its blocks back and is
// computed again later. So the oldest sequence is never held up, and request k ends at the latest after the sum over
// requests j <= k of
//   ceil((prompt_j + answer_j) / min(chunkGranule, maxRows)) + answer_j
// steps (scored sequences: min with maxScoredRows and maxLogitRows as well).

import { SwiftKVError } from '../errors.ts';
import type { ModelConfig } from '../model/config.ts';
import { type BlockManager, blocksFor, blockTokens } from './block-manager.ts';
import { type CostModel, chunkRows, initialCost, itemUnits, observeStep } from './cost-model.ts';
import type { Sequence, SequenceState } from './sequence.ts';
import { StepPlan } from './step-plan.ts';

export interface SchedulerLimits {
  /** Rows of one step. */
  maxRows: number;
  /** Sequences that run at once. */
  maxSeqs: number;
  maxLogitRows: number;
  /** Logit rows that scored sequences may take of a step: they are copied out on the JavaScript thread. */
  maxScoredRows: number;
  /** Tokens a sequence may have. */
  maxModelLen: number;
  /** Milliseconds that a step aims at. */
  maxStepMs: number;
}

/** Chunks that time limits are multiples of this; the oldest prompt gets at least one in every step. */
export const chunkGranule = blockTokens;

export class Scheduler {
  readonly limits: SchedulerLimits;
  readonly cost: CostModel;
  numPreemptions = 0;

  private readonly blocks: BlockManager;
  private readonly numLayers: number;
  /** Oldest first; all of them older than those waiting. */
  private readonly running: Sequence[] = [];
  private readonly waiting: Sequence[] = [];
  /** Arrival number of each sequence that has not ended. */
  private readonly arrival = new Map<Sequence, number>();
  private arrivals = 0;
  /** A slot given back during a step is taken at the earliest when the next one is planned. */
  private readonly freeSlots: number[] = [];
  /** One is filled while the other's results are handed on. */
  private readonly plans = [new StepPlan(), new StepPlan()] as const;
  private planIndex = 0;
  private stepRunning = false;
  /** Of the step being planned: work so far, and whether answers get their next token from it. */
  private usedUnits = 0;
  private answersWait = false;

  constructor(config: ModelConfig, limits: SchedulerLimits, blocks: BlockManager) {
    this.limits = limits;
    this.blocks = blocks;
    this.numLayers = config.numLayers;
    this.cost = initialCost(config);
    for (let slot = limits.maxSeqs - 1; slot >= 0; slot--) this.freeSlots.push(slot);
  }

  get numRunning(): number {
    return this.running.length;
  }

  get numWaiting(): number {
    return this.waiting.length;
  }

  /**
   * Queues a sequence.
   * @throws ERR_CONTEXT_LENGTH, ERR_CACHE_TOO_SMALL when it could never run
   */
  add(sequence: Sequence): void {
    const { maxModelLen } = this.limits;
    if (sequence.maxLength > maxModelLen) {
      const answer = sequence.maxTokens > 0 ? ` and ${sequence.maxTokens} more (maxTokens)` : '';
      throw new SwiftKVError(
        'ERR_CONTEXT_LENGTH',
        `Expected at most ${maxModelLen} tokens (maxModelLen) but received a prompt of ${sequence.promptLength}${answer}`,
      );
    }
    const needed = blocksFor(sequence.maxCached);
    if (needed > this.blocks.numBlocks) {
      throw new SwiftKVError(
        'ERR_CACHE_TOO_SMALL',
        `Expected a request that fits the KV cache of ${this.blocks.numBlocks * blockTokens} tokens but received one of ` +
          `${sequence.maxCached}; raise kvCacheBytes or lower maxTokens`,
      );
    }
    this.arrival.set(sequence, this.arrivals++);
    this.waiting.push(sequence);
  }

  /** Takes a sequence out, at any time. What it holds is handed out again after the step that may be reading it. */
  abort(sequence: Sequence): void {
    if (!sequence.ended) this.end(sequence, 'aborted');
  }

  /** Ends a sequence, at any time, because what it has is the whole answer. */
  finish(sequence: Sequence): void {
    if (!sequence.ended) this.end(sequence, 'finished');
  }

  /**
   * Plans the next step and begins it; null when there is nothing to do. `complete` or `fail` ends it. The plan stays
   * valid until the step after the next is planned.
   */
  schedule(): StepPlan | null {
    if (this.stepRunning) throw defect('a step was planned during another');
    if (this.arrival.size === 0) return null;
    this.planIndex ^= 1;
    const plan = this.plans[this.planIndex]!;
    plan.reset();
    this.usedUnits = 0;
    this.planDecodes(plan);
    this.answersWait = plan.size > 0;
    this.planChunks(plan);
    this.admit(plan);
    if (plan.size === 0) throw defect('nobody can run');
    plan.seal();
    this.stepRunning = true;
    this.blocks.beginStep();
    return plan;
  }

  /**
   * Ends a step that succeeded.
   * @param sampledIds by logit row; negative = no token could be drawn
   * @param rowLayers by slot: row-layers that the executor ran for each sequence
   * @param ms what the step took
   */
  complete(plan: StepPlan, sampledIds: Int32Array, rowLayers: Int32Array, ms: number): void {
    this.cost.state = observeStep(this.cost, plan, ms);
    for (let i = 0; i < plan.size; i++) {
      const item = plan.items[i]!;
      const sequence = item.sequence;
      if (sequence.state !== 'running') continue;
      const run = rowLayers[sequence.slot]!;
      sequence.rowLayersRun += run;
      sequence.rowLayersSkipped += item.count * this.numLayers - run;
      sequence.numComputed = item.start + item.count;
      sequence.numScored = Math.max(sequence.numScored, Math.min(sequence.numComputed, sequence.promptLength));
      if (!allDrawn(sampledIds, item.logitStart, item.logitRows)) this.end(sequence, 'failed');
      else if (item.sample) {
        if (sequence.append(sampledIds[item.logitStart + item.logitRows - 1]!)) this.end(sequence, 'finished');
      } else if (sequence.maxTokens === 0 && sequence.remaining === 0) {
        sequence.finishReason = 'length';
        this.end(sequence, 'finished');
      }
    }
    this.endStep();
  }

  /** Ends a step that failed: every sequence in it fails. */
  fail(plan: StepPlan): void {
    for (let i = 0; i < plan.size; i++) {
      const sequence = plan.items[i]!.sequence;
      if (sequence.state === 'running') this.end(sequence, 'failed');
    }
    this.endStep();
  }

  /**
   * Recounts blocks and slots and checks order and states.
   * @throws ERR_INTERNAL naming the first contradiction
   */
  checkIntegrity(): void {
    this.blocks.checkIntegrity([...this.running, ...this.waiting].map((s) => s.table));
    let last = -1;
    for (const sequence of [...this.running, ...this.waiting]) {
      const arrival = this.arrival.get(sequence) ?? -1;
      if (arrival <= last) throw defect(`sequence ${arrival} comes after ${last}`);
      last = arrival;
    }
    if (this.running.length + this.waiting.length !== this.arrival.size) {
      throw defect(
        `${this.arrival.size} sequences live, ${this.running.length} running, ${this.waiting.length} waiting`,
      );
    }
    const slots = [...this.freeSlots, ...this.running.map((s) => s.slot)];
    if (new Set(slots).size !== this.limits.maxSeqs || slots.length !== this.limits.maxSeqs) {
      throw defect(`slots are ${slots.sort((a, b) => a - b).join(' ')}`);
    }
    for (const s of this.running) {
      if (s.state !== 'running') throw defect(`a sequence among the running ones is ${s.state}`);
      if (s.numComputed > s.length || s.table.count < blocksFor(s.numComputed)) {
        throw defect(`${s.numComputed} tokens computed of ${s.length}, with ${s.table.count} blocks`);
      }
    }
    for (const s of this.waiting) {
      if (s.state !== 'waiting' || s.slot !== -1 || s.table.count !== 0 || s.numComputed !== 0) {
        throw defect(`a waiting sequence is ${s.state} with slot ${s.slot} and ${s.table.count} blocks`);
      }
    }
  }

  /** One row for every running answer, oldest first. */
  private planDecodes(plan: StepPlan): void {
    // While the oldest unfinished prompt is older than an answer, the answer leaves it its share of rows.
    let promptAt = this.running.findIndex((s) => !s.decoding);
    for (let i = 0; i < this.running.length; i++) {
      const sequence = this.running[i]!;
      if (!sequence.decoding) continue;
      const older = promptAt >= 0 && promptAt < i ? this.running[promptAt]! : null;
      if (!this.roomForDecode(plan, older)) continue;
      while (!this.blocks.canAppend(sequence.table, sequence.length)) {
        this.preemptYoungest();
        if (promptAt >= this.running.length) promptAt = -1;
        if (sequence.slot === -1) return;
      }
      this.blocks.append(sequence.table, sequence.length);
      this.usedUnits += itemUnits(this.cost.shape, plan.add(sequence, 1));
    }
  }

  private roomForDecode(plan: StepPlan, older: Sequence | null): boolean {
    let rows = this.limits.maxRows - plan.rows;
    let logitRows = this.limits.maxLogitRows - plan.logitRows;
    if (older !== null) {
      const share = Math.min(chunkGranule, older.remaining);
      rows -= share;
      const wanted = Math.max(1, older.logitRowsOf(share));
      logitRows -= older.scoring === 'logits' ? Math.min(wanted, this.limits.maxScoredRows) : wanted;
    }
    // Where there is room for one only, the older one gets it.
    return rows > 0 && logitRows > 0;
  }

  private planChunks(plan: StepPlan): void {
    for (const sequence of this.running) {
      if (!sequence.decoding) this.addChunk(plan, sequence);
    }
  }

  private admit(plan: StepPlan): void {
    while (this.waiting.length > 0 && this.freeSlots.length > 0) {
      const sequence = this.waiting[0]!;
      // A spare block for each running sequence: without them the newcomer would soon be thrown out again. One that has
      // just been thrown out needs more than it gave, so it does not come back in the same step.
      if (!this.blocks.canAllocate(sequence.length, this.running.length)) return;
      if (!this.addChunk(plan, sequence)) return;
      this.waiting.shift();
      this.blocks.allocate(sequence.table, sequence.length);
      sequence.slot = this.freeSlots.pop()!;
      sequence.state = 'running';
      this.running.push(sequence);
    }
  }

  /** Adds as much of the sequence as the step has room and time for. False when that is nothing. */
  private addChunk(plan: StepPlan, sequence: Sequence): boolean {
    const { limits, cost } = this;
    const logitRows = limits.maxLogitRows - plan.logitRows;
    const remaining = sequence.remaining;
    let count = Math.min(remaining, limits.maxRows - plan.rows);
    if (this.answersWait) {
      let fitting = chunkRows(cost, limits.maxStepMs, this.usedUnits, sequence.numComputed, sequence.fullDepth);
      if (fitting > chunkGranule) fitting -= fitting % chunkGranule;
      if (plan.numChunks === 0) fitting = Math.max(fitting, chunkGranule);
      else if (fitting < Math.min(remaining, chunkGranule)) return false;
      count = Math.min(count, fitting);
    }
    const room =
      sequence.scoring === 'logits' ? Math.min(logitRows, limits.maxScoredRows - plan.scoredRows) : logitRows;
    // One row less wants at most one logit row less.
    count -= Math.max(0, sequence.logitRowsOf(count) - room);
    if (count <= 0) return false;
    this.usedUnits += itemUnits(cost.shape, plan.add(sequence, count));
    plan.numChunks++;
    return true;
  }

  private preemptYoungest(): void {
    const victim = this.running.pop();
    if (victim === undefined) throw defect('no block is free and nobody holds one');
    this.release(victim);
    victim.numComputed = 0;
    victim.state = 'waiting';
    victim.numPreemptions++;
    this.numPreemptions++;
    this.waiting.unshift(victim);
  }

  private end(sequence: Sequence, state: SequenceState): void {
    const list = sequence.state === 'running' ? this.running : this.waiting;
    list.splice(list.indexOf(sequence), 1);
    if (sequence.state === 'running') this.release(sequence);
    sequence.state = state;
    this.arrival.delete(sequence);
  }

  private release(sequence: Sequence): void {
    this.blocks.release(sequence.table);
    this.freeSlots.push(sequence.slot);
    sequence.slot = -1;
  }

  private endStep(): void {
    this.stepRunning = false;
    this.blocks.endStep();
  }
}

function allDrawn(sampledIds: Int32Array, start: number, count: number): boolean {
  for (let i = start; i < start + count; i++) if (sampledIds[i]! < 0) return false;
  return true;
}

function defect(what: string): SwiftKVError {
  return new SwiftKVError('ERR_INTERNAL', `Scheduler: ${what}`);
}
