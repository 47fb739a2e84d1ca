// Reverse-mode differentiation of a program. The model emits its forward pass through this builder as through any other;
// what is recorded keeps every version of a tensor that an op writes, and `backward` then emits the gradients, last op
// first. backward.ts has the gradient of each op.

import { SwiftKVError } from '../errors.ts';
import { type Operands, ProgramBuilder, type Ref, type SymbolicTensor } from '../model/program-builder.ts';
import type { TransposedKey, WeightKey } from '../model/weights.ts';
import type { Dim, DType } from '../native/binding.ts';
import { type Attrs, gradients } from './backward.ts';

type Buffer = Ref<'buffer'>;
type AnyRef = Ref<SymbolicTensor['kind']>;

/** One op that was recorded, its operands being the versions that it read and wrote. */
export interface Entry {
  op: string;
  operands: Readonly<Record<string, AnyRef>>;
  attrs: Attrs;
  /** The version of its output that it added to. */
  before: Buffer | null;
}

/** Ops whose forward pass is emitted once more when their gradients are: only what enters them is kept. */
interface Segment {
  emit: () => void;
  stream: Buffer;
  /** What entered, and what came out. */
  input: Buffer;
  output: Buffer;
}

/** A tensor of the model: what it looks like, and the memory that holds its newest version. */
interface Logical {
  dtype: DType;
  shape: readonly Dim[];
  current: Buffer | null;
}

/** The operand that an op writes; `swiftkv_project` writes pages only. */
const written: Readonly<Record<string, string>> = {
  embed: 'x',
  rms_norm: 'out',
  linear: 'y',
  qkv_rope_cache: 'q',
  q_rope: 'q',
  attention: 'o',
  silu_mul: 'out',
  copy_rows: 'out',
};

export interface TapeOptions {
  /** Of activations in matrix products, and so of the gradients that enter them. */
  dtype: 'f32' | 'bf16';
  numHeads: number;
  numKvHeads: number;
  headDim: number;
  /** Weights that are trained, with their shapes. */
  trained: ReadonlyMap<WeightKey, readonly number[]>;
  /** Keep only what enters a segment, and compute the rest again: less memory, a third more work. */
  recompute: boolean;
  taps?: Iterable<string>;
}

export class Tape extends ProgramBuilder {
  readonly options: TapeOptions;
  /** Weights whose transposes the gradients need. */
  readonly transposed = new Set<WeightKey>();
  /** Gradients of K and V, by the op that wrote their caches. */
  readonly kv = new Map<Entry, { dkv: Buffer; written: Set<number> }>();
  /** Who writes a cache, and which of its groups that is. */
  readonly writers = new Map<number, { entry: Entry; group: number; groups: number }>();
  readonly #logical: Logical[] = [];
  readonly #free = new Map<string, Buffer[]>();
  readonly #items: (Entry | Segment)[] = [];
  readonly #gradients = new Map<number, Buffer>();
  readonly #active = new Set<number>();
  #entries: (Entry | Segment)[] | null = null;
  #replaying = false;

  constructor(options: TapeOptions) {
    super(options.taps);
    this.options = options;
  }

  /** A tensor of the model. Memory is taken for each version that has to be kept. */
  override buffer(dtype: DType, shape: readonly Dim[]): Buffer {
    return { index: -this.#logical.push({ dtype, shape, current: null }), kind: 'buffer' };
  }

  override layer(layer: number, axis: 'T' | 'S'): void {
    if (!this.#replaying) super.layer(layer, axis);
  }

  override tap(name: string, tensor: Buffer): void {
    if (!this.isTapped(name) || this.#replaying) return;
    const from = this.read(tensor);
    const out = super.buffer('f32', this.shapeOf(from));
    super.op('copy_rows', { in: from, out });
    this.output(name, out);
  }

  /** Memory that is read by name after a step. */
  result(name: string, dtype: DType, shape: readonly Dim[]): Buffer {
    const buffer = super.buffer(dtype, shape);
    this.output(name, buffer);
    return buffer;
  }

  /** Emits, and records it if gradients are wanted. */
  recordIf(wanted: boolean, emit: () => void): void {
    const before = this.#entries;
    this.#entries = wanted ? this.#items : null;
    try {
      emit();
    } finally {
      this.#entries = before;
    }
  }

  /** A part of the recorded pass that reads and writes `stream` and nothing else of what is outside it. */
  segment(stream: Buffer, emit: () => void): void {
    const entries = this.#entries;
    if (!this.options.recompute || entries === null) {
      emit();
      return;
    }
    const input = this.read(stream) as Buffer;
    const output = this.acquire('f32', this.shapeOf(input));
    super.op('copy_rows', { in: input, out: output });
    this.#logicalOf(stream).current = output;
    this.#entries = null;
    emit();
    this.#entries = entries;
    entries.push({ emit, stream, input, output });
    this.#active.add(output.index);
  }

  /** Emits the gradients of all that was recorded. The gradient of its end must be known: `setGradient`. */
  backward(): void {
    for (const item of this.#items.reverse()) {
      if ('op' in item) this.#differentiate(item);
      else this.#backwardOf(item);
    }
    this.#items.length = 0;
  }

  #backwardOf({ emit, stream, input, output }: Segment): void {
    const entries: (Entry | Segment)[] = [];
    const logical = this.#logicalOf(stream);
    logical.current = input;
    this.#entries = entries;
    this.#replaying = true;
    emit();
    this.#entries = null;
    this.#replaying = false;
    const gradient = this.takeGradient(output);
    if (gradient !== null) this.setGradient(logical.current, gradient);
    this.release(output);
    for (const entry of entries.reverse()) this.#differentiate(entry as Entry);
  }

  #differentiate(entry: Entry): void {
    const gradient = gradients[entry.op];
    if (gradient === undefined) throw new SwiftKVError('ERR_UNSUPPORTED', `No gradient of ${entry.op} is known`);
    gradient(this, entry);
    const output = written[entry.op];
    // Whoever reads this version comes later in the pass, and so has been dealt with.
    if (output !== undefined) this.release(entry.operands[output] as Buffer);
  }

  protected override op(op: string, operands: Operands, attrs: Attrs = {}): void {
    const output = written[op];
    const resolved: Record<string, AnyRef> = {};
    for (const [name, ref] of Object.entries(operands)) {
      if (ref !== undefined && name !== output) resolved[name] = this.read(ref);
    }
    let before: Buffer | null = null;
    if (output !== undefined) {
      const target = operands[output] as Buffer;
      if (target.index >= 0) {
        resolved[output] = target;
      } else {
        const logical = this.#logicalOf(target);
        if (attrs['accumulate'] === true) before = logical.current;
        if (this.#entries !== null || logical.current === null) {
          logical.current = this.acquire(logical.dtype, logical.shape);
          if (before !== null) super.op('copy_rows', { in: before, out: logical.current });
        }
        resolved[output] = logical.current;
      }
    }
    super.op(op, resolved, attrs);
    if (this.#entries !== null) this.#push({ op, operands: resolved, attrs, before });
  }

  /** Records an op that is emitted only with the gradients. */
  protected defer(op: string, operands: Operands, attrs: Attrs = {}): void {
    const resolved = Object.entries(operands).flatMap(([name, ref]) => (ref ? [[name, this.read(ref)] as const] : []));
    this.#push({ op, operands: Object.fromEntries(resolved), attrs, before: null });
  }

  /** `weights[i]` times the squared distance of x and target becomes part of the loss. */
  hidden_loss(o: { x: Buffer; target: Buffer; weights: Ref<'state'>; loss: Buffer }): void {
    this.defer('mse', o);
  }

  #push(entry: Entry): void {
    this.#entries!.push(entry);
    const { op, operands } = entry;
    if (op === 'qkv_rope_cache') this.writers.set(this.cacheOf(operands['cache']!), { entry, group: 0, groups: 1 });
    if (op === 'swiftkv_project') {
      const { first, count } = this.symbolic(operands['caches']!) as SymbolicTensor & { kind: 'caches' };
      for (let i = 0; i < count; i++) this.writers.set(first + i, { entry, group: i, groups: count });
    }
    const output = written[op];
    if (output === undefined) return;
    const reads = Object.entries(operands).filter(([name]) => name !== output);
    const trains = reads.some(([, ref]) => this.isTrained(ref));
    const follows =
      reads.some(([, ref]) => this.isActive(ref)) || (entry.before !== null && this.isActive(entry.before));
    if (trains || follows || op === 'attention') this.#active.add(operands[output]!.index);
  }

  // For backward.ts: memory, gradients, what is trained.

  /** The memory of a tensor's newest version. */
  read(ref: AnyRef): AnyRef {
    if (ref.index >= 0) return ref;
    const { current } = this.#logicalOf(ref);
    if (current === null) throw new SwiftKVError('ERR_INTERNAL', 'The program reads a tensor that nothing has written');
    return current;
  }

  emit(op: string, operands: Operands, attrs: Attrs = {}): void {
    super.op(op, operands, attrs);
  }

  acquire(dtype: DType, shape: readonly Dim[]): Buffer {
    return this.#free.get(memoryKind(dtype, shape))?.pop() ?? super.buffer(dtype, shape);
  }

  release(buffer: Buffer): void {
    const { dtype, shape } = this.symbolic(buffer) as SymbolicTensor & { kind: 'buffer' };
    const kind = memoryKind(dtype, shape);
    const free = this.#free.get(kind);
    if (free === undefined) this.#free.set(kind, [buffer]);
    else free.push(buffer);
  }

  shapeOf(ref: AnyRef): readonly Dim[] {
    return (this.symbolic(ref) as SymbolicTensor & { kind: 'buffer' }).shape;
  }

  dtypeOf(ref: AnyRef): DType {
    return (this.symbolic(ref) as SymbolicTensor & { kind: 'buffer' }).dtype;
  }

  cacheOf(ref: AnyRef): number {
    return (this.symbolic(ref) as SymbolicTensor & { kind: 'cache' }).index;
  }

  /** Whether the loss depends on a trained weight through this version. */
  isActive(ref: AnyRef): boolean {
    return this.#active.has(ref.index);
  }

  keyOf(ref: AnyRef): WeightKey {
    return (this.symbolic(ref) as SymbolicTensor & { kind: 'constant' }).key as WeightKey;
  }

  isTrained(ref: AnyRef | undefined): boolean {
    return ref?.kind === 'constant' && this.options.trained.has(this.keyOf(ref));
  }

  /** Where the gradient of a trained weight is summed up. */
  gradientOfWeight(ref: AnyRef): Ref<'state'> {
    const key = this.keyOf(ref);
    return this.state(`gradient of ${key}`, this.options.trained.get(key)!);
  }

  transposeOf(ref: AnyRef): Ref<'constant'> {
    const key = this.keyOf(ref);
    this.transposed.add(key);
    return this.constant(`${key} transposed` satisfies TransposedKey);
  }

  setGradient(version: AnyRef, gradient: Buffer): void {
    this.#gradients.set(version.index, gradient);
  }

  /** The gradient of a version, if anything had one; it is then the caller's. */
  takeGradient(version: AnyRef): Buffer | null {
    const gradient = this.#gradients.get(version.index) ?? null;
    this.#gradients.delete(version.index);
    return gradient;
  }

  /** The gradient of a version, to add to. */
  gradientToAddTo(version: AnyRef): Buffer {
    const known = this.#gradients.get(version.index);
    if (known !== undefined) return known;
    const shape = this.shapeOf(version);
    const gradient = this.acquire('f32', shape);
    super.op('copy_rows', { in: this.state(`zeros of ${shape.slice(1)}`, shape), out: gradient });
    this.setGradient(version, gradient);
    return gradient;
  }

  #logicalOf(ref: AnyRef): Logical {
    return this.#logical[-ref.index - 1]!;
  }
}

function memoryKind(dtype: DType, shape: readonly Dim[]): string {
  return `${dtype} ${JSON.stringify(shape)}`;
}
