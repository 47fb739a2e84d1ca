// One loaded variant of `bench throughput`: an engine as a caller has it, and the workload in its vocabulary.

import { Engine } from '../../engine/engine.ts';
import type { EngineInfo } from '../../engine/types.ts';
import { resolveModel } from '../../model/embedded.ts';
import { blockTokens, cacheSpecs, kvBytesPerToken } from '../../model/kv-cache.ts';
import { openSource, type SourceOptions } from '../../model/source.ts';
import type { Variant } from './latency-variants.ts';
import { type PassRecord, type PassRequest, runPass, type Sending } from './throughput-pass.ts';
import { longestRequest, type WorkItem } from './workload.ts';

export interface ThroughputLoadOptions {
  threads: number;
  isa: string;
  maxSequences: number;
  maxBatchRows?: number | undefined;
  maxStepMs?: number | undefined;
  /** Default: what `maxSequences` of the longest request need. */
  kvCacheBytes?: number | undefined;
  prefixCaching: boolean;
  signal: AbortSignal;
}

/** Enough for the engine to learn what its steps cost. */
const warmUp = { requests: 8, maxTokens: 8 };

export class ThroughputModel {
  readonly variant: Variant;
  readonly items: readonly WorkItem[];
  readonly #engine: Engine;
  readonly #requests: PassRequest[];
  readonly #signal: AbortSignal;

  /** @throws what Engine.load throws */
  static async load(
    variant: Variant,
    items: readonly WorkItem[],
    options: ThroughputLoadOptions,
  ): Promise<ThroughputModel> {
    const maxModelLen = longestRequest(items);
    const { dtype, kvCacheDtype, weightDtype, activationDtype } = variant;
    const engine = await Engine.load(resolveModel(variant.source), {
      ...options,
      dtype,
      kvCacheDtype,
      weightDtype,
      activationDtype,
      maxModelLen,
      kvCacheBytes: options.kvCacheBytes ?? (await cacheBytes(variant, maxModelLen, options.maxSequences)),
      maxQueued: items.length,
    });
    return new ThroughputModel(variant, engine, items, options.signal);
  }

  private constructor(variant: Variant, engine: Engine, items: readonly WorkItem[], signal: AbortSignal) {
    const { vocabSize } = engine.info().config;
    this.variant = variant;
    this.items = items;
    this.#engine = engine;
    this.#signal = signal;
    this.#requests = items.map((item) => ({ tokenIds: item.tokenIds(vocabSize), maxTokens: item.maxTokens }));
  }

  info(): EngineInfo {
    return this.#engine.info();
  }

  async warmUp(): Promise<void> {
    const few = this.#requests
      .slice(0, warmUp.requests)
      .map(({ tokenIds, maxTokens }) => ({ tokenIds, maxTokens: Math.min(maxTokens, warmUp.maxTokens) }));
    await runPass(this.#engine, few, { kind: 'concurrency', concurrency: few.length }, this.#signal);
  }

  /** The whole workload, with nothing of it in the prefix cache. */
  pass(sending: Sending): Promise<PassRecord> {
    this.#engine.resetPrefixCache();
    return runPass(this.#engine, this.#requests, sending, this.#signal);
  }

  dispose(): Promise<void> {
    return this.#engine.dispose();
  }
}

/** Of a cache that holds `sequences` of `length` tokens. */
async function cacheBytes(variant: Variant, length: number, sequences: number): Promise<number> {
  const { dtype = 'auto', weightDtype = 'auto', activationDtype = 'auto', kvCacheDtype } = variant;
  const options: SourceOptions = { dtype, weightDtype, activationDtype, kvCacheDtype };
  const source = await openSource(resolveModel(variant.source), options);
  const specs = cacheSpecs(source.config, source.kvCacheDtype, source.staticScales);
  return kvBytesPerToken(specs) * blockTokens * Math.ceil(length / blockTokens) * sequences;
}
