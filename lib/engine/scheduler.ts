// Decides who runs and for how many tokens. A pure state machine: no time, no tensors, no promises.
//
// Sequences are served by priority, and first come, first served within one. Every step, running answers get their next
// token first, then prompts get chunks; while answers wait for it, a step's chunks are cut to fit maxStepMs. Up to half of
// what prompts get goes to the shortest ones, the rest to the first. Blocks for a whole prompt are reserved at admission;
// when an answer needs a block and none is free, the last sequence in order gives all of its blocks back and is computed
// again later. So the first one is never held up, and a request that nobody pauses ends at the latest after the sum, over
// it and all requests j that are before it in order (those of higher priority that come later included), of
//   ceil((prompt_j + answer_j) / min(chunkGranule, maxRows)) + answer_j
// steps (scored sequences: min with maxScoredRows and maxLogitRows as well; a request of n answers counts n times).

import { SwiftKVError } from '../errors.ts';
import type { ModelConfig } from '../model/config.ts';
import { type BlockManager, blocksFor, blockTokens } from './block-manager.ts';
import { type CostModel, initialCost, observeStep } from './cost-model.ts';
import type { Sequence } from './sequence.ts';
import { SequenceLists } from './sequence-lists.ts';
import { StepPlan } from './step-plan.ts';
import { StepPlanner } from './step-planner.ts';

export interface SchedulerLimits {
  /** Rows of one step. */
  maxRows: number;
  /** Sequences that run at once. */
  maxSeqs: number;
  maxLogitRows: number;
  /** Logit rows that scored sequences may take of a step: they are copied out on the JavaScript thread. */
  maxScoredRows: number;
  /** Requests that wait at most, beside those that could start at once. */
  maxWaiting: number;
  /** Tokens a sequence may have. */
  maxModelLen: number;
  /** Milliseconds that a step aims at. */
  maxStepMs: number;
}

export class Scheduler {
  readonly limits: SchedulerLimits;
  readonly cost: CostModel;

  private readonly blocks: BlockManager;
  private readonly numLayers: number;
  private readonly lists: SequenceLists;
  private readonly planner: StepPlanner;
  /** One is filled while the other's results are handed on. */
  private readonly plans: readonly [StepPlan, StepPlan];
  private planIndex = 0;
  private stepRunning = false;

  constructor(config: ModelConfig, limits: SchedulerLimits, blocks: BlockManager) {
    this.limits = limits;
    this.blocks = blocks;
    this.numLayers = config.numLayers;
    this.cost = initialCost(config);
    this.lists = new SequenceLists(blocks, limits.maxSeqs);
    this.planner = new StepPlanner(limits, this.cost, blocks, this.lists);
    this.plans = [new StepPlan(limits.maxSeqs), new StepPlan(limits.maxSeqs)];
  }

  get numRunning(): number {
    return this.lists.running.length;
  }

  get numWaiting(): number {
    return this.lists.waiting.length;
  }

  /** Among the running and the waiting ones. */
  get numPaused(): number {
    return this.lists.numPaused;
  }

  /** Blocks that can be handed out. */
  get numFreeBlocks(): number {
    return this.blocks.numFree;
  }

  get numPreemptions(): number {
    return this.lists.numPreemptions;
  }

  /**
   * Queues the sequences of one request: all or none.
   * @throws ERR_CONTEXT_LENGTH, ERR_CACHE_TOO_SMALL when one could never run; ERR_QUEUE_FULL
   */
  add(...sequences: Sequence[]): void {
    for (const sequence of sequences) this.checkSize(sequence);
    const { maxWaiting } = this.limits;
    if (this.lists.numWaitingRequests >= maxWaiting + this.lists.numFreeSlots) {
      throw new SwiftKVError(
        'ERR_QUEUE_FULL',
        `Expected at most ${maxWaiting} requests to wait (maxQueued) but as many do; try again later, or raise maxQueued`,
      );
    }
    for (const sequence of sequences) this.lists.enqueue(sequence);
  }

  /** It gets no rows until `resume`, and is the first to lose its blocks when others need them. */
  pause(sequence: Sequence): void {
    sequence.paused = true;
  }

  resume(sequence: Sequence): void {
    sequence.paused = false;
  }

  /** Takes a sequence out, at any time. What it holds is handed out again after the step that may be reading it. */
  abort(sequence: Sequence): void {
    if (!sequence.ended) this.lists.end(sequence, 'aborted');
  }

  /** Ends a sequence, at any time, because what it has is the whole answer. */
  finish(sequence: Sequence): void {
    if (!sequence.ended) this.lists.end(sequence, 'finished');
  }

  /**
   * Plans the next step and begins it; null when nobody can run. `complete` or `fail` ends it. The plan stays valid until
   * the step after the next is planned.
   */
  schedule(): StepPlan | null {
    if (this.stepRunning) throw defect('a step was planned during another');
    const { running, waiting } = this.lists;
    if (running.length + waiting.length === 0) return null;
    this.planIndex ^= 1;
    const plan = this.plans[this.planIndex]!;
    plan.reset();
    this.planner.fill(plan);
    if (plan.size === 0) {
      if (this.numPaused < running.length + waiting.length) throw defect('nobody can run');
      return null;
    }
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
      if (!allDrawn(sampledIds, item.logitStart, item.logitRows)) {
        this.lists.end(sequence, 'failed');
        continue;
      }
      if (sequence.root !== 0) {
        this.blocks.register(sequence.table, sequence.tokens, item.start, sequence.numComputed, sequence.root);
      }
      if (item.sample) {
        if (sequence.append(sampledIds[item.logitStart + item.logitRows - 1]!)) this.lists.end(sequence, 'finished');
      } else if (sequence.maxTokens === 0 && sequence.remaining === 0) {
        sequence.finishReason = 'length';
        this.lists.end(sequence, 'finished');
      }
    }
    this.endStep();
  }

  /** Ends a step that failed: every sequence in it fails, and those whose blocks it was to copy are computed again. */
  fail(plan: StepPlan): void {
    for (let i = 0; i < plan.size; i++) {
      const sequence = plan.items[i]!.sequence;
      if (sequence.state === 'running') this.lists.end(sequence, 'failed');
    }
    for (const sequence of plan.copyOwners) {
      if (sequence.state === 'running') this.lists.preempt(sequence);
    }
    this.endStep();
  }

  /**
   * Recounts blocks and slots and checks order and states.
   * @throws ERR_INTERNAL naming the first contradiction
   */
  checkIntegrity(): void {
    this.lists.checkIntegrity();
  }

  private checkSize(sequence: Sequence): void {
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
