// A deterministic model that trusts nothing: it checks every field of every batch, keeps the token that each physical slot
// of the cache holds, and computes the next token from what it finds there, as a real model would.

import type { EngineModel } from '../../lib/engine/engine.ts';
import { SwiftKVError } from '../../lib/errors.ts';
import type { ModelConfig } from '../../lib/model/config.ts';
import type { ModelInfo, ModelMemory } from '../../lib/model/model-info.ts';
import type { StepBatch } from '../../lib/model/runner.ts';
import { type BatchCapacity, noNumbers, type SamplerState, type StepResult } from '../../lib/native/binding.ts';
import { greedy } from '../../lib/sampling/options.ts';
import { check, checkBatch } from './check-batch.ts';
import { fakeConfig, fakeLogprobs, initialHash, maxTopLogprobs, mix, nextToken, writeLogits } from './fake-model.ts';

export interface FakeOptions {
  numBlocks?: number;
  maxRows?: number;
  maxSeqs?: number;
  maxLogitRows?: number;
  maxModelLen?: number;
  vocabSize?: number;
  /** A context with this token in it gives NaN logits. */
  nanToken?: number;
  eosTokenIds?: number[];
  /** Milliseconds that the step says it took. */
  stepMs?: (batch: StepBatch) => number;
  /** A sampler with this seed finds no memory. */
  memorylessSeed?: bigint;
  /** Steps end only when `release` is called. */
  manual?: boolean;
}

type Fields = Omit<StepBatch, 'capacity'>;

function makeBatch(capacity: BatchCapacity): StepBatch {
  const {
    maxRows: rows,
    maxSeqs: seqs,
    maxLogitRows,
    maxBlocksPerSeq,
    numLayers,
    vocabSize,
    maxTopLogprobs,
    maxCopies,
  } = capacity;
  const i32 = (length: number) => new Int32Array(length).fill(-77);
  const f32 = (length: number) => new Float32Array(length).fill(-77);
  return {
    capacity,
    counts: i32(7),
    ids: i32(rows),
    positionsT: i32(rows),
    slotsT: i32(rows),
    queryStartT: i32(seqs + 1),
    contextLenT: i32(seqs),
    tableRowT: i32(seqs),
    survivors: i32(rows),
    positionsS: i32(rows),
    queryStartS: i32(seqs + 1),
    contextLenS: i32(seqs),
    tableRowS: i32(seqs),
    logitRows: i32(maxLogitRows),
    samplerSlots: i32(maxLogitRows),
    outputPositions: i32(maxLogitRows),
    blockTables: i32(seqs * maxBlocksPerSeq),
    forcedIds: i32(maxLogitRows),
    maskRows: i32(maxLogitRows),
    masks: new Uint32Array(maxLogitRows * Math.ceil(vocabSize / 32)).fill(0x77777777),
    logprobRows: i32(maxLogitRows),
    copySources: i32(maxCopies),
    copyDestinations: i32(maxCopies),
    sampledIds: i32(maxLogitRows),
    chosenLogprobs: f32(maxLogitRows),
    ranks: i32(maxLogitRows),
    topIds: i32(maxLogitRows * maxTopLogprobs),
    topLogprobs: f32(maxLogitRows * maxTopLogprobs),
    layerRows: i32(numLayers),
    rowLayers: i32(seqs),
  };
}

const outputs = new Set<keyof Fields>([
  'sampledIds',
  'chosenLogprobs',
  'ranks',
  'topIds',
  'topLogprobs',
  'layerRows',
  'rowLayers',
]);

interface Pending {
  batch: StepBatch;
  inputs: Map<keyof Fields, Int32Array | Uint32Array>;
  settle: () => void;
  cancelled: boolean;
}

export class FakeRunner implements EngineModel {
  readonly config: ModelConfig;
  readonly capacity: BatchCapacity;
  readonly batches: readonly [StepBatch, StepBatch];
  readonly numBlocks: number;
  readonly kvBytesPerToken = 1024;
  readonly tokenizerDir = null;
  readonly generationConfig = null;
  readonly maxModelLen: number;

  steps = 0;
  cancels = 0;
  disposals = 0;
  rowsRun = 0;
  /** The largest step so far. */
  maxRowsSeen = 0;
  /** Set to make the next step fail. */
  nextError: Error | null = null;

  private readonly options: FakeOptions;
  /** [numBlocks * 16] the token whose K and V the slot holds, -1 = never written. */
  private readonly store: Int32Array;
  /** By slot: the tokens of its sequence, those that setSampler told of and those fed since. */
  readonly contexts: number[][];
  /** By slot: how many of them are in the cache; -1 after setSampler, because a prefix may be there already. */
  readonly computed: number[];
  readonly samplers: (SamplerState | null)[];
  private pending: Pending | null = null;
  private logits = new Float32Array(0);
  private logitRowsHeld = 0;

  constructor(options: FakeOptions = {}) {
    const { numBlocks = 64, maxRows = 64, maxSeqs = 8, maxLogitRows = 16, maxModelLen = 512 } = options;
    const { vocabSize = 97, eosTokenIds = [] } = options;
    this.options = options;
    this.config = fakeConfig(vocabSize, eosTokenIds);
    this.capacity = {
      maxRows,
      maxSeqs,
      maxLogitRows,
      maxBlocksPerSeq: Math.ceil(maxModelLen / 16),
      numLayers: this.config.numLayers,
      vocabSize,
      maxTopLogprobs: Math.min(maxTopLogprobs, vocabSize),
      maxCopies: maxSeqs,
    };
    this.batches = [makeBatch(this.capacity), makeBatch(this.capacity)];
    this.numBlocks = numBlocks;
    this.maxModelLen = maxModelLen;
    this.store = new Int32Array(numBlocks * 16).fill(-1);
    this.contexts = Array.from({ length: maxSeqs }, () => []);
    this.computed = new Array(maxSeqs).fill(0);
    this.samplers = new Array(maxSeqs).fill(null);
  }

  get busy(): boolean {
    return this.pending !== null;
  }

  memory(): ModelMemory {
    const nothing = {
      weights: 0,
      kvPool: 0,
      ropeTable: 0,
      workspace: 0,
      samplers: 0,
      batches: 0,
      tensors: 0,
      scratch: 0,
    };
    return { engine: { ...nothing, total: 0 }, environment: { ...nothing, total: 0 } };
  }

  info(): ModelInfo {
    const { maxRows, maxSeqs, maxLogitRows } = this.capacity;
    return {
      source: 'fake',
      config: this.config,
      mode: 'student',
      backend: 'fake',
      level: 'none',
      threads: 1,
      device: null,
      batchInvariant: true,
      dtype: 'f32',
      checkpointDtypes: ['f32'],
      weightDtypes: ['f32'],
      activationDtype: 'f32',
      kvCacheDtype: 'f32',
      kvScales: 'none',
      numDistinctCaches: 4,
      kvBytesPerToken: this.kvBytesPerToken,
      numBlocks: this.numBlocks,
      blockTokens: 16,
      maxModelLen: this.maxModelLen,
      maxRows,
      maxSeqs,
      maxLogitRows,
      bytes: { weights: 0, kvPool: 0, workspace: 0, ropeTable: 0, total: 0 },
      notes: [],
    };
  }

  setSampler(slot: number, state: SamplerState, promptIds: Int32Array, outputIds: Int32Array): void {
    check(this.disposals === 0, 'setSampler after dispose');
    for (const id of [...promptIds, ...outputIds, ...state.biasIds, ...state.endIds]) {
      check(id >= 0 && id < this.config.vocabSize, `sampler token ${id}`);
    }
    check(slot >= 0 && slot < this.capacity.maxSeqs, `sampler slot ${slot}`);
    check(this.pending === null, 'setSampler while a step runs');
    this.contexts[slot] = [...promptIds, ...outputIds];
    this.computed[slot] = -1;
    if (state.seed === this.options.memorylessSeed) {
      this.samplers[slot] = { ...greedy };
      throw new SwiftKVError('ERR_OUT_OF_MEMORY', 'no memory for a sampler');
    }
    this.samplers[slot] = { ...state };
  }

  run(batch: StepBatch): Promise<StepResult> {
    check(this.disposals === 0, 'run after dispose');
    check(this.pending === null, 'run while a step runs');
    check(this.batches.includes(batch), 'a foreign batch');
    const inputs = new Map<keyof Fields, Int32Array | Uint32Array>();
    for (const [field, array] of Object.entries(batch)) {
      if ((array instanceof Int32Array || array instanceof Uint32Array) && !outputs.has(field as keyof Fields)) {
        inputs.set(field as keyof Fields, array.slice());
      }
    }
    checkBatch(batch, this);
    return new Promise((resolve, reject) => {
      const settle = () => {
        const pending = this.pending!;
        this.pending = null;
        if (pending.cancelled) return reject(new SwiftKVError('ERR_ABORTED', 'cancelled'));
        if (this.nextError !== null) {
          const error = this.nextError;
          this.nextError = null;
          return reject(error);
        }
        try {
          for (const [field, before] of inputs) {
            check(same(before, batch[field] as Int32Array | Uint32Array), `${field} was changed while the step ran`);
          }
          this.compute(batch);
          resolve({ ms: this.options.stepMs?.(batch) ?? 1 });
        } catch (error) {
          reject(error as Error);
        }
      };
      this.pending = { batch, inputs, settle, cancelled: false };
      if (!this.options.manual) setImmediate(settle);
    });
  }

  /** With `manual`: ends the step in flight. */
  release(): void {
    check(this.pending !== null, 'release without a step');
    this.pending!.settle();
  }

  cancel(): void {
    this.cancels++;
    if (this.pending === null || this.pending.cancelled) return;
    this.pending.cancelled = true;
    if (this.options.manual) setImmediate(this.pending.settle);
  }

  readLogits(rows: number): Float32Array {
    check(this.pending === null, 'readLogits while a step runs');
    check(rows <= this.logitRowsHeld, `readLogits of ${rows} rows`);
    return this.logits.slice(0, rows * this.config.vocabSize);
  }

  async dispose(): Promise<void> {
    check(this.pending === null, 'disposed while a step runs');
    this.disposals++;
  }

  private compute(b: StepBatch): void {
    const { vocabSize, numLayers, numKvLayers } = this.config;
    const { maxBlocksPerSeq } = this.capacity;
    const [T, S, R, BT] = b.counts as unknown as [number, number, number, number];
    this.steps++;
    this.rowsRun += T;
    this.maxRowsSeen = Math.max(this.maxRowsSeen, T);
    for (let i = 0; i < b.counts[6]!; i++) {
      const from = b.copySources[i]! * 16;
      this.store.copyWithin(b.copyDestinations[i]! * 16, from, from + 16);
    }
    for (let row = 0; row < T; row++) this.store[b.slotsT[row]!] = b.ids[row]!;

    b.rowLayers.fill(0);
    const hashOfRow = new Map<number, number>();
    for (let s = 0; s < BT; s++) {
      const [from, to] = [b.queryStartT[s]!, b.queryStartT[s + 1]!];
      const tableRow = b.tableRowT[s]!;
      const context = this.contexts[tableRow]!;
      for (let row = from; row < to; row++) {
        const position = b.positionsT[row]!;
        const id = b.ids[row]!;
        if (position === context.length) context.push(id);
        check(id === context[position], `row ${row} at ${tableRow} is ${id}, of another sequence than its sampler`);
      }
      this.computed[tableRow] = b.contextLenT[s]!;
      const table = b.blockTables.subarray(tableRow * maxBlocksPerSeq);
      let hash = initialHash;
      let poisoned = false;
      for (let position = 0; position < b.contextLenT[s]!; position++) {
        const token = this.store[table[position >> 4]! * 16 + (position & 15)]!;
        check(
          token === context[position],
          `position ${position} of table row ${tableRow} holds ${token}, not ${context[position]}`,
        );
        if (token === this.options.nanToken) poisoned = true;
        hash = mix(hash, token + 1);
        const row = from + position - b.positionsT[from]!;
        if (row >= from) hashOfRow.set(row, poisoned ? -1 : hash);
      }
      b.rowLayers[tableRow] = (to - from) * numKvLayers;
    }
    for (let i = 0; i < S; i++) {
      const row = b.survivors[i]!;
      const s = b.queryStartT.subarray(0, BT + 1).findLastIndex((start) => start <= row);
      b.rowLayers[b.tableRowT[s]!]! += numLayers - numKvLayers;
    }
    for (let layer = 0; layer < numLayers; layer++) b.layerRows[layer] = layer < numKvLayers ? T : S;

    this.logitRowsHeld = R;
    this.logits = new Float32Array(R * vocabSize);
    for (let i = 0; i < R; i++) {
      const hash = hashOfRow.get(b.survivors[b.logitRows[i]!]!)!;
      b.sampledIds[i] = hash < 0 ? noNumbers : this.sample(b, i, hash);
      writeLogits(this.logits.subarray(i * vocabSize, (i + 1) * vocabSize), Math.max(hash, 0));
    }
    this.reportLogprobs(b);
  }

  private sample(b: StepBatch, row: number, hash: number): number {
    const { vocabSize } = this.config;
    if (b.forcedIds[row]! >= 0) return b.forcedIds[row]!;
    const words = Math.ceil(vocabSize / 32);
    const maskRow = b.maskRows[row]!;
    const mask = maskRow < 0 ? null : b.masks.subarray(maskRow * words, (maskRow + 1) * words);
    return nextToken(hash, this.samplers[b.samplerSlots[row]!]!, b.outputPositions[row]!, vocabSize, mask);
  }

  private reportLogprobs(b: StepBatch): void {
    const { vocabSize } = this.config;
    const { maxTopLogprobs } = this.capacity;
    for (let i = 0; i < b.counts[5]!; i++) {
      const row = b.logprobRows[i]!;
      const id = b.sampledIds[row]!;
      if (id < 0) continue;
      const logits = this.logits.subarray(row * vocabSize, (row + 1) * vocabSize);
      const { logprob, rank, top } = fakeLogprobs(logits, id, maxTopLogprobs);
      b.chosenLogprobs[i] = logprob;
      b.ranks[i] = rank;
      for (const [k, one] of top.entries()) {
        b.topIds[i * maxTopLogprobs + k] = one.tokenId;
        b.topLogprobs[i * maxTopLogprobs + k] = one.logprob;
      }
    }
  }
}

function same(a: Int32Array | Uint32Array, b: Int32Array | Uint32Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
