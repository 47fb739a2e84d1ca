// A deterministic model that trusts nothing: it checks every field of every batch, keeps the token that each physical slot
// of the cache holds, and computes the next token from what it finds there, as a real model would.

import type { EngineModel } from '../../lib/engine/engine.ts';
import { SwiftKVError } from '../../lib/errors.ts';
import type { ModelConfig } from '../../lib/model/config.ts';
import type { ModelInfo, ModelMemory } from '../../lib/model/model-info.ts';
import type { StepBatch } from '../../lib/model/runner.ts';
import {
  type BatchCapacity,
  noNumbers,
  nothingAllowed,
  type SamplerState,
  type StepResult,
} from '../../lib/native/binding.ts';
import { greedy } from '../../lib/sampling/options.ts';

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
  /** Steps end only when `release` is called. */
  manual?: boolean;
}

export function fakeConfig(vocabSize: number, eosTokenIds: number[]): ModelConfig {
  return {
    modelType: 'llama_swiftkv',
    vocabSize,
    hiddenSize: 64,
    intermediateSize: 128,
    numLayers: 6,
    numHeads: 4,
    numKvHeads: 2,
    headDim: 16,
    rmsNormEps: 1e-5,
    rope: { theta: 10000, scaling: null },
    bias: { q: false, k: false, v: false, o: false, mlp: false },
    qkNorm: false,
    tieWordEmbeddings: false,
    maxPositions: 4096,
    bosTokenId: null,
    eosTokenIds,
    numKvLayers: 2,
    groupSize: 2,
    base: null,
  };
}

const maxTopLogprobs = 20;

const initialHash = 0x811c9dc5;

function mix(hash: number, value: number): number {
  let h = Math.imul(hash ^ value, 0x01000193);
  h ^= h >>> 15;
  return Math.imul(h, 0x85ebca6b) >>> 0;
}

function hashContext(tokens: ArrayLike<number>): number {
  let hash = initialHash;
  for (let i = 0; i < tokens.length; i++) hash = mix(hash, tokens[i]! + 1);
  return hash;
}

/** Which tokens a sampler and a mask allow; penalties and finite biases change nothing here. */
function allows(sampler: SamplerState, mask: Uint32Array | null, outputPosition: number, id: number): boolean {
  if (mask !== null && ((mask[id >>> 5]! >>> (id & 31)) & 1) === 0) return false;
  if (outputPosition < sampler.minTokens && sampler.endIds.includes(id)) return false;
  const bias = sampler.biasIds.indexOf(id);
  return bias < 0 || sampler.biases[bias] !== Number.NEGATIVE_INFINITY;
}

/** The token that the context and the sampler give, or the next higher one that is allowed; nothingAllowed if none is. */
function nextToken(
  hash: number,
  sampler: SamplerState,
  outputPosition: number,
  vocabSize: number,
  mask: Uint32Array | null = null,
): number {
  const random =
    sampler.temperature === 0 ? hash : mix(mix(hash, Number(sampler.seed & 0x7fffffffn)), outputPosition + 7);
  for (let i = 0; i < vocabSize; i++) {
    const id = (random + i) % vocabSize;
    if (allows(sampler, mask, outputPosition, id)) return id;
  }
  return nothingAllowed;
}

/** What the fake answers to a prompt, computed without any engine. */
export function fakeAnswer(
  prompt: ArrayLike<number>,
  options: {
    maxTokens: number;
    vocabSize: number;
    stopIds?: ReadonlySet<number>;
    sampler?: SamplerState;
    mask?: Uint32Array;
  },
): number[] {
  const sampler = options.sampler ?? greedy;
  const answer: number[] = [];
  let hash = hashContext(prompt);
  while (answer.length < options.maxTokens) {
    const id = nextToken(hash, sampler, answer.length, options.vocabSize, options.mask);
    answer.push(id);
    if (options.stopIds?.has(id)) break;
    hash = mix(hash, id + 1);
  }
  return answer;
}

/** Row `position` of the logits of a text: the greedy token stands out. */
export function fakeLogits(prompt: ArrayLike<number>, vocabSize: number): Float32Array {
  const data = new Float32Array(prompt.length * vocabSize);
  let hash = initialHash;
  for (let i = 0; i < prompt.length; i++) {
    hash = mix(hash, prompt[i]! + 1);
    writeLogits(data.subarray(i * vocabSize, (i + 1) * vocabSize), hash);
  }
  return data;
}

function writeLogits(row: Float32Array, hash: number): void {
  for (let v = 0; v < row.length; v++) row[v] = mix(hash, v) / 2 ** 32;
  row[hash % row.length] = 2;
}

/** Of the row of logits: log-softmax in double, and the most likely tokens. */
export function fakeLogprobs(row: Float32Array, id: number, top: number) {
  const max = Math.max(...row);
  const norm = max + Math.log(row.reduce((sum, x) => sum + Math.exp(x - max), 0));
  const order = Array.from(row.keys()).sort((a, b) => row[b]! - row[a]! || a - b);
  return {
    logprob: Math.fround(row[id]! - norm),
    rank: row.filter((x) => x > row[id]!).length + 1,
    top: order.slice(0, top).map((tokenId) => ({ tokenId, logprob: Math.fround(row[tokenId]! - norm) })),
  };
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
  } = capacity;
  const i32 = (length: number) => new Int32Array(length).fill(-77);
  const f32 = (length: number) => new Float32Array(length).fill(-77);
  return {
    capacity,
    counts: i32(6),
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
  /** By table row: the tokens that were fed there since position 0. */
  private readonly fed: number[][];
  private readonly samplers: (SamplerState | null)[];
  /** By sampler slot: what it was told of its sequence. */
  private readonly told: number[][];
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
    };
    this.batches = [makeBatch(this.capacity), makeBatch(this.capacity)];
    this.numBlocks = numBlocks;
    this.maxModelLen = maxModelLen;
    this.store = new Int32Array(numBlocks * 16).fill(-1);
    this.fed = Array.from({ length: maxSeqs }, () => []);
    this.samplers = new Array(maxSeqs).fill(null);
    this.told = Array.from({ length: maxSeqs }, () => []);
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
    this.samplers[slot] = { ...state };
    this.told[slot] = [...promptIds, ...outputIds];
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
    this.checkBatch(batch);
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

  /** Everything that kernels would follow blindly. */
  private checkBatch(b: StepBatch): void {
    const { maxRows, maxSeqs, maxLogitRows, maxBlocksPerSeq } = this.capacity;
    const [T, S, R, BT, BS, P] = b.counts as unknown as [number, number, number, number, number, number];
    check(T >= 1 && T <= maxRows, `${T} rows`);
    check(S >= 0 && S <= T && R >= 0 && R <= S && R <= maxLogitRows, `S ${S} R ${R}`);
    check(BT >= 1 && BT <= maxSeqs && BS >= 0 && BS <= BT, `BT ${BT} BS ${BS}`);
    check(b.queryStartT[0] === 0 && b.queryStartT[BT] === T, 'queryStartT');
    check(b.queryStartS[0] === 0 && b.queryStartS[BS] === S, 'queryStartS');

    const slots = new Set<number>();
    const rowsOfTable = new Set<number>();
    const blockOwner = new Map<number, number>();
    const sequenceOfRow: number[] = [];
    for (let s = 0; s < BT; s++) {
      const [from, to] = [b.queryStartT[s]!, b.queryStartT[s + 1]!];
      const tableRow = b.tableRowT[s]!;
      check(to > from, `sequence ${s} has no rows`);
      check(tableRow >= 0 && tableRow < maxSeqs && !rowsOfTable.has(tableRow), `table row ${tableRow}`);
      rowsOfTable.add(tableRow);
      const contextLen = b.contextLenT[s]!;
      check(contextLen === b.positionsT[to - 1]! + 1 && contextLen <= this.maxModelLen, `context length ${contextLen}`);
      const table = b.blockTables.subarray(tableRow * maxBlocksPerSeq);
      for (let i = 0; i < Math.ceil(contextLen / 16); i++) {
        const block = table[i]!;
        check(block >= 0 && block < this.numBlocks, `block ${block}`);
        check(!blockOwner.has(block), `block ${block} belongs to two sequences of the step, or twice to one`);
        blockOwner.set(block, s);
      }
      for (let row = from; row < to; row++) {
        sequenceOfRow.push(s);
        const position = b.positionsT[row]!;
        check(position >= 0 && position === b.positionsT[from]! + row - from, `position ${position} of row ${row}`);
        const slot = b.slotsT[row]!;
        check(slot === table[position >> 4]! * 16 + (position & 15), `slot ${slot} of position ${position}`);
        check(!slots.has(slot), `slot ${slot} is written twice`);
        slots.add(slot);
        check(b.ids[row]! >= 0 && b.ids[row]! < this.config.vocabSize, `token ${b.ids[row]}`);
      }
      const fed = this.fed[tableRow]!;
      const start = b.positionsT[from]!;
      check(
        start === 0 || start === fed.length,
        `sequence at table row ${tableRow} jumps from ${fed.length} to ${start}`,
      );
    }

    let at = 0;
    for (let s = 0; s < BS; s++) {
      const [from, to] = [b.queryStartS[s]!, b.queryStartS[s + 1]!];
      check(to > from, `surviving sequence ${s} has no rows`);
      const half = sequenceOfRow[b.survivors[from]!]!;
      check(
        b.tableRowS[s] === b.tableRowT[half] && b.contextLenS[s] === b.contextLenT[half],
        `surviving sequence ${s}`,
      );
      check(b.survivors[to - 1] === b.queryStartT[half + 1]! - 1, `survivors of sequence ${half} are no suffix`);
      for (let i = from; i < to; i++) {
        const row = b.survivors[i]!;
        check(row >= at && row < T && sequenceOfRow[row] === half, `survivor ${i} is row ${row}`);
        check(i === from || row === b.survivors[i - 1]! + 1, `survivors of sequence ${half} have a gap`);
        check(b.positionsS[i] === b.positionsT[row], `position of survivor ${i}`);
        at = row + 1;
      }
    }

    const logitRows = new Set<number>();
    for (let i = 0; i < R; i++) {
      const row = b.logitRows[i]!;
      check(row >= 0 && row < S && !logitRows.has(row), `logit row ${row}`);
      logitRows.add(row);
      const tableRow = b.tableRowT[sequenceOfRow[b.survivors[row]!]!]!;
      check(b.samplerSlots[i] === tableRow, `sampler slot ${b.samplerSlots[i]} at table row ${tableRow}`);
      check(this.samplers[tableRow] !== null, `sampler ${tableRow} was never set`);
      check(b.outputPositions[i]! >= 0, `output position ${b.outputPositions[i]}`);
      check(b.forcedIds[i]! >= -1 && b.forcedIds[i]! < this.config.vocabSize, `forced token ${b.forcedIds[i]}`);
      check(b.maskRows[i]! >= -1 && b.maskRows[i]! < maxLogitRows, `mask row ${b.maskRows[i]}`);
    }
    check(P >= 0 && P <= R, `${P} logprob rows`);
    const reported = new Set(b.logprobRows.subarray(0, P));
    check(reported.size === P && [...reported].every((row) => row >= 0 && row < R), 'logprob rows');
  }

  private compute(b: StepBatch): void {
    const { vocabSize, numLayers, numKvLayers } = this.config;
    const { maxBlocksPerSeq } = this.capacity;
    const [T, S, R, BT] = b.counts as unknown as [number, number, number, number];
    this.steps++;
    this.rowsRun += T;
    this.maxRowsSeen = Math.max(this.maxRowsSeen, T);
    for (let row = 0; row < T; row++) this.store[b.slotsT[row]!] = b.ids[row]!;

    b.rowLayers.fill(0);
    const hashOfRow = new Map<number, number>();
    for (let s = 0; s < BT; s++) {
      const [from, to] = [b.queryStartT[s]!, b.queryStartT[s + 1]!];
      const tableRow = b.tableRowT[s]!;
      const fed = this.fed[tableRow]!;
      if (b.positionsT[from] === 0) fed.length = 0;
      for (let row = from; row < to; row++) fed.push(b.ids[row]!);
      const told = this.told[tableRow]!;
      check(
        told.every((id, i) => i >= fed.length || id === fed[i]),
        `the sampler at ${tableRow} was told of another sequence`,
      );
      const table = b.blockTables.subarray(tableRow * maxBlocksPerSeq);
      let hash = initialHash;
      let poisoned = false;
      for (let position = 0; position < b.contextLenT[s]!; position++) {
        const token = this.store[table[position >> 4]! * 16 + (position & 15)]!;
        check(
          token === fed[position],
          `position ${position} of table row ${tableRow} holds ${token}, not ${fed[position]}`,
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

/** Every complaint of every fake: one about a request that nobody waits for would go unseen otherwise. */
export const complaints: string[] = [];

function check(condition: boolean, message: string): void {
  if (condition) return;
  complaints.push(message);
  throw new Error(`fake runner: ${message}`);
}
