// Fills a plan: room for whoever is first, a row for every running answer, then chunks of prompts.

import { SwiftKVError } from '../errors.ts';
import { type BlockManager, blocksFor, blockTokens } from './block-manager.ts';
import { type CostModel, chunkRows, itemUnits, stepUnits } from './cost-model.ts';
import type { SchedulerLimits } from './scheduler.ts';
import type { Sequence } from './sequence.ts';
import { isBefore, type SequenceLists } from './sequence-lists.ts';
import type { StepPlan } from './step-plan.ts';

/** Chunks that time limits are multiples of this; the first prompt gets at least one in every step. */
export const chunkGranule = blockTokens;

/** How far a plan may be filled. */
interface Caps {
  rows: number;
  logitRows: number;
  scoredRows: number;
  /** Of work; see cost-model.ts. */
  units: number;
}

export class StepPlanner {
  private readonly limits: SchedulerLimits;
  private readonly cost: CostModel;
  private readonly blocks: BlockManager;
  private readonly lists: SequenceLists;
  /** Work of the step so far. */
  private usedUnits = 0;
  /** Prompts that may get a chunk, in order; used again for every step. */
  private readonly prompts: Sequence[] = [];

  constructor(limits: SchedulerLimits, cost: CostModel, blocks: BlockManager, lists: SequenceLists) {
    this.limits = limits;
    this.cost = cost;
    this.blocks = blocks;
    this.lists = lists;
  }

  /** Leaves the plan empty when nobody can run. */
  fill(plan: StepPlan): void {
    this.usedUnits = 0;
    this.makeRoom(plan);
    this.planDecodes(plan);
    this.planPrompts(plan);
  }

  /** The first one in the queue takes the room of those that come after it or are paused, if that is enough for it. */
  private makeRoom(plan: StepPlan): void {
    const { running } = this.lists;
    const first = this.lists.waiting.find(canStart);
    if (first === undefined || running.length === 0) return;
    let victims = 0;
    let held = 0;
    for (const s of running) {
      if (!s.paused && !isBefore(first, s)) continue;
      victims++;
      held += s.table.count;
    }
    if (victims === 0 || this.admit(plan, first)) return;
    const spare = running.length - victims;
    if (blocksFor(first.length) + spare > this.blocks.numFree + held) return;
    while (victims-- > 0) {
      this.lists.preempt(this.lastVictim());
      if (this.admit(plan, first)) return;
    }
  }

  /** One row for every running answer. */
  private planDecodes(plan: StepPlan): void {
    const { running } = this.lists;
    let promptAt = running.findIndex(isRunnablePrompt);
    for (let i = 0; i < running.length; i++) {
      const sequence = running[i]!;
      if (sequence.paused || !sequence.decoding) continue;
      // A prompt that comes before an answer has its share of rows.
      if (!this.roomForDecode(plan, promptAt >= 0 && promptAt < i ? running[promptAt]! : null)) continue;
      if (!this.blocks.canAppend(sequence.table, sequence.length)) {
        do this.lists.preempt(this.lastVictim());
        while (sequence.slot !== -1 && !this.blocks.canAppend(sequence.table, sequence.length));
        if (sequence.slot === -1) return;
        // Paused ones before it may have left.
        i = running.indexOf(sequence);
        promptAt = running.findIndex(isRunnablePrompt);
      }
      this.blocks.append(sequence.table, sequence.length);
      this.usedUnits += itemUnits(this.cost.shape, plan.add(sequence, 1));
    }
  }

  private roomForDecode(plan: StepPlan, before: Sequence | null): boolean {
    let rows = this.limits.maxRows - plan.rows;
    let logitRows = this.limits.maxLogitRows - plan.logitRows;
    if (before !== null) {
      rows -= shareRows(before);
      logitRows -= this.shareLogitRows(before);
    }
    // Where there is room for one only, the first gets it.
    return rows > 0 && logitRows > 0;
  }

  /**
   * The first prompt gets what is left of the step, except that up to half goes to prompts with less before them: one that
   * is short does not wait for a long one, and a long one takes at most twice as long for it.
   */
  private planPrompts(plan: StepPlan): void {
    const { prompts, limits } = this;
    this.collectPrompts();
    const first = prompts[0];
    if (first === undefined) return;
    // Running answers wait for the end of the step; without them it may take as long as it likes.
    const units = plan.size > 0 ? stepUnits(this.cost.state, limits.maxStepMs) : Number.POSITIVE_INFINITY;
    const { maxRows: rows, maxLogitRows: logitRows, maxScoredRows: scoredRows } = limits;
    const all: Caps = { rows, logitRows, scoredRows, units };
    const half = this.halfOf(plan, all, first);
    for (;;) {
      const shortest = this.takeShortest(first);
      if (shortest === null) break;
      this.give(plan, shortest, half, false);
    }
    this.give(plan, first, all, true);
    for (let i = 1; i < prompts.length; i++) this.give(plan, prompts[i]!, all, false);
  }

  /** Running prompts, and those in the queue that all fit together with those before them. */
  private collectPrompts(): void {
    const { prompts, lists } = this;
    prompts.length = 0;
    for (const s of lists.running) if (isRunnablePrompt(s)) prompts.push(s);
    let slots = lists.numFreeSlots;
    let room = this.blocks.numFree - lists.running.length;
    let first = true;
    for (const s of lists.waiting) {
      if (!canStart(s)) continue;
      slots--;
      room -= blocksFor(s.length) + 1;
      // Prefix hits may let the first one in all the same.
      if (!first && (slots < 0 || room < 0)) break;
      first = false;
      let at = prompts.length;
      while (at > 0 && isBefore(s, prompts[at - 1]!)) at--;
      prompts.splice(at, 0, s);
    }
  }

  /** Removes the prompt with the fewest rows left, if it is shorter than the first and as important; else null. */
  private takeShortest(first: Sequence): Sequence | null {
    const { prompts } = this;
    let at = 0;
    for (let i = 1; i < prompts.length; i++) {
      if (prompts[i]!.priority === first.priority && rowsLeft(prompts[i]!) < rowsLeft(prompts[at]!)) at = i;
    }
    return at === 0 ? null : prompts.splice(at, 1)[0]!;
  }

  private halfOf(plan: StepPlan, all: Caps, first: Sequence): Caps {
    const between = (used: number, cap: number, share: number) =>
      Math.min(used + Math.floor((cap - used) / 2), cap - share);
    const logitRows = this.shareLogitRows(first);
    return {
      rows: between(plan.rows, all.rows, shareRows(first)),
      logitRows: between(plan.logitRows, all.logitRows, logitRows),
      scoredRows: between(plan.scoredRows, all.scoredRows, first.scoring === 'logits' ? logitRows : 0),
      units: (this.usedUnits + all.units) / 2,
    };
  }

  /** Logit rows that a prompt's share of a step wants. */
  private shareLogitRows(prompt: Sequence): number {
    const wanted = Math.max(1, prompt.logitRowsOf(shareRows(prompt)));
    return prompt.scoring === 'logits' ? Math.min(wanted, this.limits.maxScoredRows) : wanted;
  }

  /** As much of a prompt as the caps allow, at least a granule of the first one; starts it if it waits. */
  private give(plan: StepPlan, sequence: Sequence, caps: Caps, isFirst: boolean): void {
    if (this.chunkOf(plan, sequence, caps, isFirst) <= 0) return;
    if (sequence.state === 'waiting' && (!canStart(sequence) || !this.admit(plan, sequence))) return;
    const count = this.chunkOf(plan, sequence, caps, isFirst);
    if (count <= 0) return;
    this.usedUnits += itemUnits(this.cost.shape, plan.add(sequence, count));
    plan.numChunks++;
  }

  private chunkOf(plan: StepPlan, sequence: Sequence, caps: Caps, isFirst: boolean): number {
    const { remaining, numComputed, fullDepth } = sequence;
    let count = Math.min(remaining, caps.rows - plan.rows);
    if (caps.units !== Number.POSITIVE_INFINITY) {
      let fitting = chunkRows(this.cost.shape, caps.units - this.usedUnits, numComputed, fullDepth);
      if (fitting > chunkGranule) fitting -= fitting % chunkGranule;
      if (isFirst) fitting = Math.max(fitting, chunkGranule);
      else if (fitting < Math.min(remaining, chunkGranule)) return 0;
      count = Math.min(count, fitting);
    }
    let room = caps.logitRows - plan.logitRows;
    if (sequence.scoring === 'logits') room = Math.min(room, caps.scoredRows - plan.scoredRows);
    // One row less wants at most one logit row less.
    return count - Math.max(0, sequence.logitRowsOf(count) - room);
  }

  /** Starts a waiting sequence, with what is cached of it or computed by another answer to its prompt; false: no room. */
  private admit(plan: StepPlan, sequence: Sequence): boolean {
    const { lists, blocks } = this;
    if (lists.numFreeSlots === 0) return false;
    const { table, tokens, length } = sequence;
    // Rows that are scored have to be computed.
    const root = sequence.scoring === null ? sequence.root : 0;
    // A spare block for each running sequence: without them the newcomer would soon be thrown out again. One that has
    // just been thrown out needs more than it gave, so it does not come back in the same step.
    const spare = lists.running.length;
    const relative = relativeOf(sequence);
    const computed =
      relative === null
        ? blocks.tryAdmit(table, tokens, length, root, spare)
        : blocks.tryFork(table, relative.table, length, spare);
    if (computed < 0) return false;
    const part = computed >> 4;
    if ((computed & 15) !== 0) plan.addCopy(relative!.table.blocks[part]!, table.blocks[part]!, sequence);
    lists.start(sequence, computed);
    return true;
  }

  /** Paused ones go first, then the last one in order. */
  private lastVictim(): Sequence {
    const { running } = this.lists;
    const victim = running.findLast((s) => s.paused) ?? running.at(-1);
    if (victim === undefined)
      throw new SwiftKVError('ERR_INTERNAL', 'Scheduler: no block is free and nobody holds one');
    return victim;
  }
}

function isRunnablePrompt(sequence: Sequence): boolean {
  return !sequence.paused && !sequence.decoding;
}

function shareRows(prompt: Sequence): number {
  return Math.min(chunkGranule, prompt.remaining);
}

/** Rows until the next token; one that can fork needs one. */
function rowsLeft(sequence: Sequence): number {
  return sequence.state === 'waiting' && relativeOf(sequence) !== null ? 1 : sequence.remaining;
}

/** A running answer to the same prompt that has computed it, for a sequence that has no tokens of its own yet. */
function relativeOf(sequence: Sequence): Sequence | null {
  const { group, promptLength, numOutput } = sequence;
  if (group === null || numOutput > 0 || sequence.scoring !== null) return null;
  for (const s of group.members) if (s.state === 'running' && s.numComputed >= promptLength) return s;
  return null;
}

/** Whether a waiting sequence may run: somebody reads it, and no other answer is computing its prompt just now. */
function canStart(sequence: Sequence): boolean {
  const { group, paused, promptLength } = sequence;
  if (paused) return false;
  if (group === null || relativeOf(sequence) !== null) return true;
  for (const s of group.members) if (s.state === 'running' && !s.paused && s.numComputed < promptLength) return false;
  return true;
}
