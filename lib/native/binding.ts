// The surface of the native addon, exactly. Native code receives complete, checked values: names, defaults and
// validation live in the TypeScript above this file.

/** int8 and int4 exist as weight matrices in panels only, their scales inside. */
export type DType = 'f32' | 'bf16' | 'f16' | 'fp8_e4m3' | 'i32' | 'u8' | 'int8' | 'int4';
export type Layout = 'row_major' | 'panels';
export type KvScales = 'none' | 'dynamic' | 'per_head';

/**
 * Rows of a step. T: all rows, S: surviving rows, R: logit rows, BT and BS: sequences of the two halves, P: logit rows
 * whose log-probabilities are wanted, C: blocks to copy before the first row.
 */
export type Axis = 'T' | 'S' | 'R' | 'BT' | 'BS' | 'P' | 'C';

/** One dimension: fixed, a row axis, or an axis plus a constant (`queryStart` is [BT + 1]). */
export type Dim = number | Axis | { axis: Axis; plus: number };

export interface CpuInfo {
  arch: string;
  model: string;
  /** ISA levels this build has and this machine can run, slowest first; the last is the best. */
  levels: string[];
  /** Levels compiled into this build. */
  builtLevels: string[];
  /** Logical processors in this process's affinity mask. */
  affinity: number;
  /** CPUs' worth of time that the cgroup quota allows, or null. */
  quota: number | null;
}

/**
 * Bytes that native code holds now, by what they are for, counted where they are allocated. `tensors`: those that are
 * neither weights nor the RoPE table; `scratch`: of ops called alone.
 */
export interface NativeMemory {
  weights: number;
  kvPool: number;
  ropeTable: number;
  /** Buffers and scratch of programs. */
  workspace: number;
  samplers: number;
  batches: number;
  tensors: number;
  scratch: number;
  total: number;
}

/** What a device is whose memory is not the process's own. Versions are CUDA's, 1000 * major + 10 * minor; 0: none. */
export interface NativeDeviceInfo {
  name: string;
  /** e.g. `sm_90` */
  arch: string;
  totalBytes: number;
  /** That can be taken now: of the device's memory, and of the limit. */
  freeBytes: number;
  multiprocessors: number;
  /** Shared memory that one block may have. */
  sharedBytes: number;
  /** The CUDA version that the driver supports. */
  driverVersion: number;
  runtimeVersion: number;
  /** Who multiplies plain matrices: `swiftkv`, or a library; and why. */
  linear: string;
  linearReason: string;
}

/** An opened backend. All of its tensors, pools and programs die with `close`, which waits for work in flight. */
export interface NativeDevice {
  readonly backend: string;
  readonly threads: number;
  /** Bytes that tensors, pools and programs of this device hold now. */
  readonly allocatedBytes: number;
  /** Batches and scratch included. Works after `close`: then only batches are left, until they are disposed of. */
  memory(): NativeMemory;
  /** null for `cpu`, whose memory is the process's own. */
  describe(): NativeDeviceInfo | null;
  /** Run one op alone on the environment's executor thread. Rejects with a coded error. */
  run(op: string, operands: Record<string, Operand>, attrs: Record<string, number | boolean>): Promise<void>;
  /** The same on the calling thread: for tests and benchmarks. */
  runSync(op: string, operands: Record<string, Operand>, attrs: Record<string, number | boolean>): void;
  /**
   * Makes all memory that the device has now resident, on the device's threads; what is in it stays. Memory comes
   * zeroed, but its pages only when they are first written, so that allocating does not hold up the caller.
   */
  touch(): Promise<void>;
  /**
   * What the device does at most, measured for about `ms` milliseconds on its threads, off the JavaScript thread:
   * operations a second in registers (a multiply-add is two), or bytes a second read from `memory`, which only `read`
   * takes and which should be larger than the caches. Rejects with ERR_UNSUPPORTED where there is no such instruction.
   */
  measurePeak(kind: PeakKind, ms: number, memory?: NativeTensor): Promise<{ perSecond: number }>;
  close(): void;
}

/** f32 multiply-adds, bf16 pair products, products of 8-bit integers, reads from memory. */
export type PeakKind = 'fma_f32' | 'dot_bf16' | 'dot_int8' | 'read';

/** An operand of an op called alone: a tensor, one cache of a pool, several caches, or a sampler table. */
export type Operand = NativeTensor | NativeCacheRef | NativeCacheRef[] | NativeSamplerTable;

export interface NativeTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly layout: Layout;
  readonly byteLength: number;
  /** Raw bytes, row-major tensors only. */
  write(bytes: Uint8Array, byteOffset?: number): void;
  read(bytes: Uint8Array, byteOffset?: number): void;
  /** Logical row-major values, converted to or from the tensor's dtype (round to nearest even) and layout. */
  writeFloats(values: Float32Array): void;
  readFloats(): Float32Array;
  /** Seeded uniform values in [-scale, scale), off the JavaScript thread; the same on every machine. */
  fillRandom(seed: number, scale: number): Promise<void>;
  dispose(): void;
}

export interface NativeCacheRef {
  readonly pool: NativeKVPool;
  readonly index: number;
}

export interface CacheSpec {
  numKvHeads: number;
  headDim: number;
  dtype: 'f32' | 'bf16' | 'fp8_e4m3';
  scales: KvScales;
  /** [numKvHeads], with scales = 'per_head'. */
  kScale?: Float32Array;
  vScale?: Float32Array;
}

/** Paged memory of every distinct cache: allocated at construction, resident after the device's `touch`. */
export interface NativeKVPool {
  readonly numBlocks: number;
  readonly numCaches: number;
  /** Bytes of one block of 16 tokens, summed over all caches, scales included. */
  readonly blockBytes: number;
  readonly byteLength: number;
  cache(index: number): NativeCacheRef;
  dispose(): void;
}

export interface SamplerState {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  seed: bigint;
  choice: number;
  /** Of tokens in the prompt or the outputs: positive logits are divided by it, others multiplied. > 0, 1 = off. */
  repetitionPenalty: number;
  /** Subtracted from the logit of every token among the outputs. 0 = off. */
  presencePenalty: number;
  /** Subtracted from the logit of a token among the outputs, times how often it is there. 0 = off. */
  frequencyPenalty: number;
  /** Distinct token ids, and what is added to their logits: finite, or -Infinity to forbid. */
  biasIds: Int32Array;
  biases: Float32Array;
  /** None of `endIds` at an output position below this. 0 = off. */
  minTokens: number;
  endIds: Int32Array;
}

export interface NativeSamplerTable {
  readonly capacity: number;
  /**
   * Replaces a slot, what it has counted included; only while no step that reads the slot is running. The ids are
   * counted where a penalty needs them: then the slot takes 8 bytes a token of the vocabulary, and keeps them. Each step
   * counts the token that it draws for the slot, but no forced one.
   */
  set(slot: number, state: SamplerState, promptIds: Int32Array, outputIds: Int32Array): void;
  dispose(): void;
}

export interface BatchCapacity {
  maxRows: number;
  maxSeqs: number;
  maxLogitRows: number;
  maxBlocksPerSeq: number;
  /** Length of layerRows. */
  numLayers: number;
  /** Of the model: a row of masks has this many bits. */
  vocabSize: number;
  /** Columns of topIds and topLogprobs; at most vocabSize. */
  maxTopLogprobs: number;
  /** Block copies of one step. */
  maxCopies: number;
}

/** `sampledIds` where the row holds NaN or +Infinity, or nothing but -Infinity: the model is at fault. */
export const noNumbers = -1;
/** `sampledIds` where mask, biases and ending ids together leave no token of the row: the request is at fault. */
export const nothingAllowed = -2;

/**
 * The arrays of one step, in one native allocation that the executor reads in place. JavaScript writes them between
 * runs only. Names ending in T describe all rows, names ending in S the surviving rows.
 */
export interface NativeBatch {
  readonly capacity: BatchCapacity;
  /** [7]: T, S, R, BT, BS, P, C. */
  readonly counts: Int32Array;
  readonly ids: Int32Array; // [T]
  readonly positionsT: Int32Array; // [T]
  readonly slotsT: Int32Array; // [T] block * 16 + offset, -1 = padding
  readonly queryStartT: Int32Array; // [BT + 1]
  readonly contextLenT: Int32Array; // [BT]
  readonly tableRowT: Int32Array; // [BT]
  readonly survivors: Int32Array; // [S] indices of T rows, ascending
  readonly positionsS: Int32Array; // [S]
  readonly queryStartS: Int32Array; // [BS + 1]
  readonly contextLenS: Int32Array; // [BS]
  readonly tableRowS: Int32Array; // [BS]
  readonly logitRows: Int32Array; // [R] indices of S rows
  readonly samplerSlots: Int32Array; // [R]
  readonly outputPositions: Int32Array; // [R]
  /** [R] -1 = draw; else this id is the answer: it reads nothing of the slot and is not counted. */
  readonly forcedIds: Int32Array;
  readonly maskRows: Int32Array; // [R] row of masks, -1 = none
  /** [maxLogitRows, ceil(vocabSize / 32)] a set bit allows the token: bit id % 32 of word id / 32 (rounded down). */
  readonly masks: Uint32Array;
  readonly logprobRows: Int32Array; // [P] indices of R rows
  /** [C] blocks whose contents, in every cache, the step copies before anything else; in any order. */
  readonly copySources: Int32Array;
  readonly copyDestinations: Int32Array; // [C] all different, and none of them among the sources
  readonly blockTables: Int32Array; // [maxSeqs * maxBlocksPerSeq]
  // Written by the step:
  readonly sampledIds: Int32Array; // [R], noNumbers or nothingAllowed where there is no token
  /** [P] of the sampled (or forced) id, from the logits as the model gave them; NaN where there is no token. */
  readonly chosenLogprobs: Float32Array;
  readonly ranks: Int32Array; // [P] tokens strictly more likely, plus 1; 0 where there is no token
  readonly topIds: Int32Array; // [P, maxTopLogprobs] descending by probability, ties by lower id
  readonly topLogprobs: Float32Array; // [P, maxTopLogprobs]
  /** [numLayers] rows that entered each layer, counted by the executor. */
  readonly layerRows: Int32Array;
  /** [maxSeqs] by tableRow: the sum over layers of the rows of that sequence that entered it, counted by the executor. */
  readonly rowLayers: Int32Array;
  /** Empties the arrays; their memory goes at once, or with the step that reads it. */
  dispose(): void;
}

/** Names of the batch arrays a program may read or write as tensors. */
export type BatchField = Exclude<keyof NativeBatch, 'capacity' | 'counts' | 'layerRows' | 'rowLayers' | 'dispose'>;

export type ProgramTensor =
  | { kind: 'constant'; tensor: NativeTensor }
  | { kind: 'buffer'; dtype: DType; shape: Dim[] }
  /** What steps may write and what outlives them: elements from `offset` on in this shape; a packed tensor as a whole. */
  | { kind: 'state'; tensor: NativeTensor; offset: number; shape: Dim[] }
  | { kind: 'batch'; field: BatchField }
  | { kind: 'cache'; cache: NativeCacheRef }
  | { kind: 'caches'; caches: NativeCacheRef[] }
  | { kind: 'samplers'; samplers: NativeSamplerTable };

/** An op of a program: operands are indices into `tensors`. */
export interface ProgramOp {
  op: string;
  operands: Record<string, number>;
  attrs: Record<string, number | boolean>;
}

/** Says which rows enter a layer: the executor counts them when it passes this point. */
export interface ProgramLayerMark {
  layer: number;
  axis: 'T' | 'S';
}

export interface ProgramDescription {
  name: string;
  capacity: BatchCapacity;
  tensors: ProgramTensor[];
  steps: (ProgramOp | ProgramLayerMark)[];
}

export interface StepResult {
  /** Milliseconds from the first op to the last. */
  ms: number;
}

/** A checked list of ops with all the memory it needs. One run at a time. */
export interface NativeProgram {
  readonly workspaceBytes: number;
  /** Resolves when the step is done; rejects with ERR_ABORTED after cancel(), with a coded error on a fault. */
  run(batch: NativeBatch): Promise<StepResult>;
  /** Read between ops: the run in flight stops after the current op. */
  cancel(): void;
  /** Copies rows of a buffer tensor (by index) out as f32, after a run. */
  readBuffer(tensor: number, rows: number): Float32Array;
  dispose(): void;
}

/** One piece of a weight: `rows` x `k` source elements at a byte offset of a file, into rows of a tensor. */
export interface WeightSegment {
  path: string;
  offset: number;
  /** fp8_e4m3 only for values of an fp8_e4m3 tensor; its scales are a segment of their own. */
  dtype: 'f32' | 'bf16' | 'f16' | 'fp8_e4m3';
  rows: number;
  k: number;
  dst: NativeTensor;
  dstRow: number;
  /** Default 'values'. 'scales' of an fp8_e4m3 tensor: k = 1, f32, bf16 or f16. */
  target?: 'values' | 'scales';
  /** One element is the scale of all `rows`. */
  repeat?: boolean;
}

export interface NativeLoad {
  readonly promise: Promise<void>;
  /** Source bytes read so far. */
  readonly loadedBytes: number;
  cancel(): void;
}

export interface NativeBinding {
  readonly version: string;
  readonly blockTokens: number;
  cpuInfo(): Omit<CpuInfo, 'quota'>;
  /** Bytes of memory the process has resident, now. */
  residentBytes(): number;
  /** Of all devices of this environment (the main thread, or one worker). */
  memory(): NativeMemory;
  /**
   * @param options.backend `cpu`, or the absolute path of a side library
   * @param options.level an ISA level, or the index of a device
   * @param options.batchInvariant default true
   * @param options.memoryLimit bytes of device memory, 0 (default): all; means nothing to `cpu`
   */
  openDevice(options: {
    backend: string;
    threads: number;
    level: string;
    batchInvariant?: boolean;
    memoryLimit?: number;
  }): NativeDevice;
  /** `part` is what it counts as in `memory()`; default 'tensors'. */
  tensor(
    device: NativeDevice,
    dtype: DType,
    shape: number[],
    layout: Layout,
    part?: 'tensors' | 'weights' | 'ropeTable',
  ): NativeTensor;
  kvPool(device: NativeDevice, numBlocks: number, caches: CacheSpec[]): NativeKVPool;
  /** Sampler slots for logits of `vocabSize` tokens, greedy at first. */
  samplerTable(device: NativeDevice, capacity: number, vocabSize: number): NativeSamplerTable;
  batch(device: NativeDevice, capacity: BatchCapacity): NativeBatch;
  program(device: NativeDevice, description: ProgramDescription): NativeProgram;
  /** Reads segments in order with pread on a thread of its own, converting and packing; nothing stays mapped. */
  loadWeights(device: NativeDevice, segments: WeightSegment[]): NativeLoad;
  /** Exact conversions, for tables and tests. */
  convert(values: Float32Array, dtype: DType): Uint8Array;
  convertBack(bytes: Uint8Array, dtype: DType): Float32Array;
}
