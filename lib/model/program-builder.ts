// Builds a program op by op, as data: which tensors, which ops, which rows enter which layer. Nothing native is needed
// to build one; program.ts counts its memory and binds it to weights and caches.

import { SwiftKVError } from '../errors.ts';
import type { BatchField, Dim, DType, ProgramLayerMark, ProgramOp } from '../native/binding.ts';
import type { TransposedKey, WeightKey } from './weights.ts';

export type SymbolicTensor =
  | { kind: 'constant'; key: WeightKey | TransposedKey }
  | { kind: 'buffer'; dtype: DType; shape: readonly Dim[] }
  | { kind: 'state'; name: string; shape: readonly Dim[] }
  | { kind: 'batch'; field: BatchField }
  | { kind: 'cache'; index: number }
  | { kind: 'caches'; first: number; count: number }
  | { kind: 'samplers' };

/** A program before it is bound to memory. Operands are indices into `tensors`. */
export interface Program {
  tensors: readonly SymbolicTensor[];
  steps: readonly (ProgramOp | ProgramLayerMark)[];
  /** Tensors to read after a run, by name: taps that were asked for, and `logits`. */
  outputs: ReadonlyMap<string, number>;
}

/** A tensor of the program being built. K keeps caches from being passed where rows are expected. */
export interface Ref<K extends SymbolicTensor['kind'] = 'constant' | 'buffer' | 'state' | 'batch'> {
  readonly index: number;
  readonly kind: K;
}

type Rows = Ref<'buffer' | 'state' | 'batch'>;
type Weight = Ref<'constant'>;

/** Rows of FP8 weights' products become FP8 too, with a dynamic scale each; by default they stay as they are. */
interface Fp8Activations {
  fp8Activations?: boolean;
}

/** The attribute is named only where it is on: a program reads as it did without it. */
function fp8(fp8Activations: boolean): Record<string, boolean> {
  return fp8Activations ? { fp8Activations } : {};
}

function epsIf(eps: number | undefined): Record<string, number> {
  return eps === undefined ? {} : { eps };
}

/** Norms of each head of queries and keys, which Qwen3 has. */
interface HeadNorms {
  qNorm: Weight;
  kNorm: Weight;
  eps: number;
}

/** Of one op, by name. */
export type Operands = Readonly<Record<string, Ref<SymbolicTensor['kind']> | undefined>>;

/** What attention needs to know of one half's rows. */
export interface RowsRefs {
  positions: Rows;
  queryStart: Rows;
  contextLen: Rows;
  tableRow: Rows;
  blockTables: Rows;
}

export class ProgramBuilder {
  readonly #tensors: SymbolicTensor[] = [];
  readonly #steps: (ProgramOp | ProgramLayerMark)[] = [];
  readonly #outputs = new Map<string, number>();
  readonly #taps: ReadonlySet<string>;
  readonly #known = new Map<string, number>();

  /** `taps`: names of the tensors to read back. A tapped program is another program: it has more ops. */
  constructor(taps: Iterable<string> = []) {
    this.#taps = new Set(taps);
  }

  /** A weight; the same key is the same tensor. */
  constant(key: WeightKey | TransposedKey): Ref<'constant'> {
    return this.#once(`constant ${key}`, { kind: 'constant', key });
  }

  /** Memory of the step, [rows of an axis, ...]; reuse one where its contents are no longer needed. */
  buffer(dtype: DType, shape: readonly Dim[]): Ref<'buffer'> {
    return this.#add({ kind: 'buffer', dtype, shape });
  }

  /** Memory that outlives the step and that it may write, bound by name. */
  state(name: string, shape: readonly Dim[]): Ref<'state'> {
    return this.#once(`state ${name}`, { kind: 'state', name, shape });
  }

  batch(field: BatchField): Ref<'batch'> {
    return this.#once(`batch ${field}`, { kind: 'batch', field });
  }

  cache(index: number): Ref<'cache'> {
    return this.#once(`cache ${index}`, { kind: 'cache', index });
  }

  /** `count` caches from `first` on. */
  caches(first: number, count: number): Ref<'caches'> {
    return this.#add({ kind: 'caches', first, count });
  }

  samplers(): Ref<'samplers'> {
    return this.#once('samplers', { kind: 'samplers' });
  }

  /** The ops up to the next mark belong to `layer` and run on the rows of `axis`; the executor counts them. */
  layer(layer: number, axis: 'T' | 'S'): void {
    this.#steps.push({ layer, axis });
  }

  /** Names a tensor [rows of an axis, dim]. Asked for, its rows are copied out here as f32; else nothing happens. */
  tap(name: string, tensor: Ref<'buffer'>): void {
    if (!this.#taps.has(name)) return;
    const { shape } = this.#tensors[tensor.index] as SymbolicTensor & { kind: 'buffer' };
    const out = this.buffer('f32', shape);
    this.copy_rows({ in: tensor, out });
    this.output(name, out);
  }

  /** Names a tensor to be read after a run. */
  output(name: string, tensor: Ref<'buffer'>): void {
    if (this.#outputs.has(name)) throw new SwiftKVError('ERR_INTERNAL', `The program has two outputs named ${name}`);
    this.#outputs.set(name, tensor.index);
  }

  build(): Program {
    const missing = [...this.#taps].filter((name) => !this.#outputs.has(name));
    if (missing.length > 0) {
      throw new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected names of tensors for taps but received ${missing}`);
    }
    return { tensors: this.#tensors, steps: this.#steps, outputs: this.#outputs };
  }

  // The ops: names, operands and attributes are those of the op table.

  embed(o: { ids: Rows; table: Weight; x: Rows }): void {
    this.op('embed', o);
  }

  rms_norm({ eps, ...o }: { x: Rows; w: Weight; out: Rows; eps: number }): void {
    this.op('rms_norm', o, { eps });
  }

  /** y = a W^T + bias; with accumulate, added into y. */
  linear({
    accumulate = false,
    fp8Activations = false,
    ...o
  }: { a: Rows; w: Weight; bias?: Weight; y: Rows; accumulate?: boolean } & Fp8Activations): void {
    this.op('linear', o, { accumulate, ...fp8(fp8Activations) });
  }

  qkv_rope_cache({
    numHeads,
    eps,
    fp8Activations = false,
    ...o
  }: {
    a: Rows;
    w: Weight;
    bias?: Weight;
    rope: Weight;
    positions: Rows;
    slots: Rows;
    q: Rows;
    cache: Ref<'cache'>;
    numHeads: number;
  } & Partial<HeadNorms> &
    Fp8Activations): void {
    this.op('qkv_rope_cache', o, { numHeads, ...epsIf(eps), ...fp8(fp8Activations) });
  }

  q_rope({
    eps,
    fp8Activations = false,
    ...o
  }: { a: Rows; w: Weight; bias?: Weight; rope: Weight; positions: Rows; q: Rows } & Partial<Omit<HeadNorms, 'kNorm'>> &
    Fp8Activations): void {
    this.op('q_rope', o, { ...epsIf(eps), ...fp8(fp8Activations) });
  }

  swiftkv_project({
    eps,
    fp8Activations = false,
    bf16Activations = false,
    ...o
  }: {
    x: Rows;
    norm: Weight;
    w: Weight;
    bias?: Weight;
    kNorm?: Weight;
    rope: Weight;
    positions: Rows;
    slots: Rows;
    caches: Ref<'caches'>;
    eps: number;
    /** The normalised rows are bf16 where the weights are FP8; other weights decide it themselves. */
    bf16Activations?: boolean;
  } & Fp8Activations): void {
    this.op('swiftkv_project', o, { eps, ...fp8(fp8Activations), ...(bf16Activations ? { bf16Activations } : {}) });
  }

  attention({ scale, ...o }: { q: Rows; cache: Ref<'cache'>; o: Rows; scale: number } & RowsRefs): void {
    this.op('attention', o, { scale });
  }

  silu_mul(o: { gateUp: Rows; out: Rows }): void {
    this.op('silu_mul', o);
  }

  gather_rows(o: { x: Rows; index: Rows; out: Rows }): void {
    this.op('gather_rows', o);
  }

  sample(o: {
    logits: Rows;
    samplers: Ref<'samplers'>;
    slots: Rows;
    outputPositions: Rows;
    forcedIds: Rows;
    bitmask: Rows;
    maskRows: Rows;
    ids: Rows;
  }): void {
    this.op('sample', o);
  }

  /** Of some rows of the logits; `ids` are the chosen tokens of all of them. */
  logprobs(o: {
    logits: Rows;
    ids: Rows;
    rows: Rows;
    chosen: Rows;
    rank: Rows;
    topIds: Rows;
    topLogprobs: Rows;
  }): void {
    this.op('logprobs', o);
  }

  /** In every cache, block by block. */
  copy_blocks(o: { from: Rows; to: Rows; caches: Ref<'caches'> }): void {
    this.op('copy_blocks', o);
  }

  copy_rows(o: { in: Rows; out: Rows }): void {
    this.op('copy_rows', o);
  }

  /** What a reference stands for. */
  protected symbolic(ref: Ref<SymbolicTensor['kind']>): SymbolicTensor {
    return this.#tensors[ref.index]!;
  }

  /** Whether a tap of this name is asked for. */
  isTapped(name: string): boolean {
    return this.#taps.has(name);
  }

  protected op(op: string, operands: Operands, attrs: Readonly<Record<string, number | boolean>> = {}): void {
    const indices = Object.entries(operands).flatMap(([name, ref]) => (ref ? [[name, ref.index] as const] : []));
    this.#steps.push({ op, operands: Object.fromEntries(indices), attrs: { ...attrs } });
  }

  #add<T extends SymbolicTensor>(tensor: T): Ref<T['kind']> {
    return { index: this.#tensors.push(tensor) - 1, kind: tensor.kind };
  }

  #once<T extends SymbolicTensor>(name: string, tensor: T): Ref<T['kind']> {
    const index = this.#known.get(name) ?? this.#add(tensor).index;
    this.#known.set(name, index);
    return { index, kind: tensor.kind };
  }
}
