// The gradient of each op of the forward pass, as ops. A gradient belongs to one version of a tensor; whoever takes it
// gives its memory back or hands it on.

import type { Ref, SymbolicTensor } from '../model/program-builder.ts';
import type { Entry, Tape } from './tape.ts';

export type Attrs = Readonly<Record<string, number | boolean>>;
type AnyRef = Ref<SymbolicTensor['kind']>;
type Buffer = Ref<'buffer'>;

export const gradients: Readonly<Record<string, (tape: Tape, entry: Entry) => void>> = {
  embed(tape, { operands: { ids, table, x } }) {
    const dx = tape.takeGradient(x!);
    if (dx === null) return;
    if (tape.isTrained(table)) tape.emit('embed_backward', { dTable: tape.gradientOfWeight(table!), ids, dx });
    tape.release(dx);
  },

  rms_norm(tape, { operands: { x, w, out }, attrs }) {
    const dout = tape.takeGradient(out!);
    if (dout === null) return;
    normBackward(tape, x!, w!, dout, attrs['eps'] as number);
    tape.release(dout);
  },

  linear(tape, { operands: { a, w, bias, y }, before }) {
    const dy = tape.takeGradient(y!);
    if (dy === null) return;
    const rounded = tape.dtypeOf(dy) === tape.options.dtype ? dy : tape.acquire(tape.options.dtype, tape.shapeOf(dy));
    if (rounded !== dy) tape.emit('cast_rows', { in: dy, out: rounded });
    productBackward(tape, a!, w!, bias, rounded);
    if (rounded !== dy) tape.release(rounded);
    // y was added to: the gradient of what it was before is the same.
    if (before !== null && tape.isActive(before)) tape.setGradient(before, dy);
    else tape.release(dy);
  },

  silu_mul(tape, { operands: { gateUp, out } }) {
    const dout = tape.takeGradient(out!);
    if (dout === null) return;
    const dGateUp = tape.acquire(tape.options.dtype, tape.shapeOf(gateUp!));
    tape.emit('silu_mul_backward', { dout, gateUp, dGateUp });
    tape.release(dout);
    tape.setGradient(gateUp!, dGateUp);
  },

  attention(tape, { operands: { q, cache, o, ...rows }, attrs }) {
    const dout = tape.takeGradient(o!);
    if (dout === null) return;
    const writer = tape.writers.get(tape.cacheOf(cache!));
    const { numKvHeads, headDim } = tape.options;
    if (writer === undefined) return tape.release(dout);
    let kv = tape.kv.get(writer.entry);
    if (kv === undefined) {
      kv = { dkv: tape.acquire('f32', ['T', writer.groups * 2 * numKvHeads * headDim]), written: new Set() };
      tape.kv.set(writer.entry, kv);
    }
    const dq = tape.acquire('f32', tape.shapeOf(q!));
    const accumulate = kv.written.has(writer.group);
    tape.emit(
      'attention_backward',
      { q, cache, ...rows, o, dout, dq, dkv: kv.dkv },
      { scale: attrs['scale']!, group: writer.group, accumulate },
    );
    kv.written.add(writer.group);
    tape.release(dout);
    tape.setGradient(q!, dq);
  },

  q_rope(tape, { operands: { a, w, bias, rope, positions, q } }) {
    const dq = tape.takeGradient(q!);
    if (dq === null) return;
    const { dtype, numHeads, numKvHeads, headDim } = tape.options;
    const out = tape.acquire(dtype, ['T', numHeads * headDim]);
    tape.emit('rope_backward', { rope, positions, dq, out }, { numKvHeads });
    tape.release(dq);
    productBackward(tape, a!, w!, bias, out);
    tape.release(out);
  },

  qkv_rope_cache(tape, entry) {
    const { a, w, bias, rope, positions, q } = entry.operands;
    const dq = tape.takeGradient(q!);
    const kv = tape.kv.get(entry);
    if (dq === null || kv === undefined) return;
    const { dtype, numHeads, numKvHeads, headDim } = tape.options;
    const out = tape.acquire(dtype, ['T', (numHeads + 2 * numKvHeads) * headDim]);
    tape.emit('rope_backward', { rope, positions, dq, dkv: kv.dkv, out }, { numKvHeads });
    tape.release(dq);
    tape.release(kv.dkv);
    tape.kv.delete(entry);
    productBackward(tape, a!, w!, bias, out);
    tape.release(out);
  },

  swiftkv_project(tape, entry) {
    const { x, norm, w, bias, rope, positions } = entry.operands;
    const kv = tape.kv.get(entry);
    if (kv === undefined) return;
    const { dtype, numKvHeads } = tape.options;
    const eps = entry.attrs['eps'] as number;
    const out = tape.acquire(dtype, tape.shapeOf(kv.dkv));
    tape.emit('rope_backward', { rope, positions, dkv: kv.dkv, out }, { numKvHeads });
    tape.release(kv.dkv);
    tape.kv.delete(entry);
    const z = tape.acquire(dtype, tape.shapeOf(x!));
    tape.emit('rms_norm', { x, w: norm, out: z }, { eps });
    if (tape.isTrained(w)) weightBackward(tape, z, w!, bias, out);
    tape.release(z);
    if (tape.isActive(x!) || tape.isTrained(norm)) {
      const dz = tape.acquire('f32', tape.shapeOf(x!));
      tape.emit('linear', { a: out, w: tape.transposeOf(w!), y: dz }, { accumulate: false });
      normBackward(tape, x!, norm!, dz, eps);
      tape.release(dz);
    }
    tape.release(out);
  },

  // The copy of a stream: its gradient is the stream's.
  copy_rows(tape, { operands }) {
    const dout = tape.takeGradient(operands['out']!);
    if (dout === null) return;
    if (tape.isActive(operands['in']!)) tape.setGradient(operands['in']!, dout);
    else tape.release(dout);
  },

  mse(tape, { operands: { x, target, weights, loss } }) {
    const dx = tape.isActive(x!) ? tape.gradientToAddTo(x!) : tape.acquire('f32', tape.shapeOf(x!));
    tape.emit('mse', { x, target, weights, loss, dx });
    if (!tape.isActive(x!)) tape.release(dx);
  },
};

/** From the gradient of a product's output, in the compute dtype, to those of its weight and of its input. */
function productBackward(tape: Tape, a: AnyRef, w: AnyRef, bias: AnyRef | undefined, dy: Buffer): void {
  if (tape.isTrained(w)) weightBackward(tape, a, w, bias, dy);
  if (!tape.isActive(a)) return;
  const known = tape.takeGradient(a);
  const da = known ?? tape.acquire('f32', tape.shapeOf(a));
  tape.emit('linear', { a: dy, w: tape.transposeOf(w), y: da }, { accumulate: known !== null });
  tape.setGradient(a, da);
}

function weightBackward(tape: Tape, a: AnyRef, w: AnyRef, bias: AnyRef | undefined, dy: Buffer): void {
  const dbias = tape.isTrained(bias) ? { dbias: tape.gradientOfWeight(bias!) } : {};
  tape.emit('linear_backward', { a, dy, dw: tape.gradientOfWeight(w), ...dbias });
}

function normBackward(tape: Tape, x: AnyRef, w: AnyRef, dout: Buffer, eps: number): void {
  const dw = tape.isTrained(w) ? { dw: tape.gradientOfWeight(w) } : {};
  // Where nothing before x is trained its gradient is written to memory that nobody reads.
  const dx = tape.isActive(x) ? tape.gradientToAddTo(x) : tape.acquire('f32', tape.shapeOf(x));
  tape.emit('rms_norm_backward', { x, w, dout, dx, ...dw }, { eps });
  if (!tape.isActive(x)) tape.release(dx);
}
