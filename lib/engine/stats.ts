// What `engine.stats()` reports: the state of now, and sums since the engine was loaded, for whoever takes differences.

import type { BlockManager } from './block-manager.ts';
import type { EventLoopLag } from './event-loop-lag.ts';
import type { Histogram } from './histogram.ts';
import type { EngineObserver } from './observer.ts';
import type { Scheduler } from './scheduler.ts';
import type { EngineMemory } from './types.ts';

/** Sequences are counted: a request of n answers counts n times. What is not of now never goes down. */
export interface EngineStats {
  /** The engine's number in messages of the diagnostics channels. */
  engine: number;
  /** Now: sequences that hold blocks, that wait for some, and those of either kind whose readers are too slow. */
  running: number;
  waiting: number;
  paused: number;
  cache: CacheStats;
  /** Times that a sequence lost its blocks and was computed again. */
  preemptions: number;
  /** Row-layers that steps ran, by the executor's counters, and those that full depth would have taken besides. */
  rowLayersRun: number;
  rowLayersSkipped: number;
  tokens: {
    /** Prompts of the sequences that have started. */
    prompt: number;
    /** Of those, tokens that were in the cache: from earlier requests, or from another answer to the prompt. */
    cached: number;
    /** Generated, stop tokens included. */
    completion: number;
  };
  requests: {
    /** All that were taken: queued = finished + aborted + failed + running + waiting. */
    queued: number;
    finished: number;
    /** Given up by the caller, at a timeout, or because the engine closed. */
    aborted: number;
    /** By a fault of the model, of a step or of a mask. */
    failed: number;
    /** Refused when they were to be queued: too long, no room in the queue, or a closed engine. */
    rejected: number;
  };
  /** Begun. */
  steps: number;
  /** From a step's first op to its last, of steps that succeeded. */
  stepMs: Histogram;
  /**
   * What JavaScript spends on such a step: planning it, writing it, handing it over, telling the listeners of the one before
   * (with the search for stop strings), applying its results. Readers decode their text when they read; that is not in it.
   */
  javascriptMs: Histogram;
  /** Since the first call of `stats()`, which starts the measurement; null until it has something to say. */
  eventLoopLag: EventLoopLag | null;
  memory: EngineMemory;
}

export interface CacheStats {
  /** Of 16 tokens: blocks = used + cached + free. */
  blocks: number;
  /** Held by running sequences. */
  used: number;
  /** Held by nobody and kept for prefix hits until their room is needed. */
  cached: number;
  free: number;
  /** Prompt tokens that were looked up in the prefix cache, and found; again when a preempted sequence comes back. */
  queriedTokens: number;
  hitTokens: number;
  /** hitTokens / queriedTokens; 0 when nothing was looked up. */
  hitRate: number;
  /** Cached blocks whose room was needed. */
  evictions: number;
}

export interface StatsSources {
  observer: EngineObserver;
  scheduler: Scheduler;
  blocks: BlockManager;
  eventLoopLag: EventLoopLag | null;
  memory: EngineMemory;
}

export function engineStats({ observer, scheduler, blocks, eventLoopLag, memory }: StatsSources): EngineStats {
  return {
    engine: observer.engine,
    running: scheduler.numRunning,
    waiting: scheduler.numWaiting,
    paused: scheduler.numPaused,
    cache: cacheStats(blocks),
    preemptions: scheduler.numPreemptions,
    rowLayersRun: observer.rowLayersRun,
    rowLayersSkipped: observer.rowLayersSkipped,
    tokens: { ...observer.tokens },
    requests: { ...observer.requests },
    steps: observer.steps,
    stepMs: observer.stepMs.read(),
    javascriptMs: observer.javascriptMs.read(),
    eventLoopLag,
    memory,
  };
}

function cacheStats({ numBlocks, numFree, numCached, prefixStats }: BlockManager): CacheStats {
  const { queryTokens, hitTokens, evictions } = prefixStats;
  return {
    blocks: numBlocks,
    used: numBlocks - numFree,
    cached: numCached,
    free: numFree - numCached,
    queriedTokens: queryTokens,
    hitTokens,
    hitRate: queryTokens === 0 ? 0 : hitTokens / queryTokens,
    evictions,
  };
}
