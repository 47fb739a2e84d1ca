// Calls single ops: checks what was passed, then hands it to the device. Shapes and dtypes are checked natively.

import { SwiftKVError, toSwiftKVError } from '../errors.ts';
import type { Operand } from '../native/binding.ts';
import type { Device } from './device.ts';
import type { OpArguments, OpName, OpSignatures } from './op-signatures.ts';
import { type OperandKind, opSpecs } from './op-specs.ts';
import { CacheRef } from './paged-kv-cache.ts';
import { SamplerTable } from './sampler-table.ts';
import { Tensor } from './tensor.ts';

// Written over the keys of OpSignatures itself, so that each function carries the documentation of its op.
type OpFunctions<Result> = {
  readonly [K in keyof OpSignatures]: (...args: OpArguments<K>) => Result;
};

/** The ops on the calling thread, which they block: for tests and benchmarks. */
export type SyncOps = OpFunctions<void>;
export type Ops = OpFunctions<Promise<void>> & { readonly sync: SyncOps };

interface Call {
  device: Device;
  operands: Record<string, Operand>;
  attrs: Record<string, number | boolean>;
}

const invalid = (message: string) => new SwiftKVError('ERR_INVALID_ARGUMENT', message);

function describe(value: unknown): string {
  if (value === null || typeof value !== 'object') return String(value);
  return `an object of ${value.constructor?.name ?? 'no'} class`;
}

/** What native code takes for one operand, and the device that it belongs to. */
function toNative(where: string, kind: OperandKind, value: unknown): { device: Device; native: Operand } {
  const disposed = () => new SwiftKVError('ERR_DISPOSED', `${where} has been disposed of`);
  if (kind === 'tensor' && value instanceof Tensor) {
    if (value.disposed) throw disposed();
    return { device: value.device, native: value.native };
  }
  if (kind === 'samplers' && value instanceof SamplerTable) {
    if (value.disposed) throw disposed();
    return { device: value.device, native: value.native };
  }
  if (kind === 'cache' && value instanceof CacheRef) {
    if (value.pool.disposed) throw disposed();
    return { device: value.pool.device, native: value.native };
  }
  if (kind === 'caches' && Array.isArray(value) && value.length > 0) {
    const all = value.map((v, i) => toNative(`${where}[${i}]`, 'cache', v));
    if (value.some((v: CacheRef) => v.pool !== value[0].pool))
      throw invalid(`Expected caches of one pool for ${where}`);
    return { device: all[0]!.device, native: (value as CacheRef[]).map((v) => v.native) };
  }
  const expected = {
    tensor: 'a Tensor',
    samplers: 'a SamplerTable',
    cache: 'a cache of a PagedKVCache',
    caches: 'an array of at least one cache of a PagedKVCache',
  }[kind];
  throw invalid(`Expected ${expected} for ${where} but received ${describe(value)}`);
}

function checkNames(op: string, what: string, given: object, known: object): void {
  for (const name of Object.keys(given)) {
    if (name in known) continue;
    const names = Object.keys(known).join(', ') || 'none';
    throw invalid(`Expected ${what}s ${names} for ${op} but received ${name}`);
  }
}

/** Checks a call completely: names, kinds, one live device, attribute types; fills in defaults. */
function prepare(op: OpName, operands: Record<string, unknown>, attrs: Record<string, unknown>): Call {
  const spec: { operands: Record<string, string>; attrs: Record<string, string> } = opSpecs[op];
  if (typeof operands !== 'object' || operands === null) {
    throw invalid(`Expected an object of operands for ${op} but received ${describe(operands)}`);
  }
  checkNames(op, 'operand', operands, spec.operands);
  checkNames(op, 'attribute', attrs, spec.attrs);

  let device: Device | undefined;
  const native: Record<string, Operand> = {};
  for (const [name, kind] of Object.entries(spec.operands)) {
    const value = operands[name];
    if (value === undefined && kind.endsWith('?')) continue;
    const one = toNative(`operand ${name} of ${op}`, kind.replace('?', '') as OperandKind, value);
    device ??= one.device;
    if (one.device !== device)
      throw invalid(`Operand ${name} of ${op} belongs to another device than the ones before it`);
    native[name] = one.native;
  }
  if (device!.disposed) throw new SwiftKVError('ERR_DISPOSED', `${op}: the device has been disposed of`);

  const values: Record<string, number | boolean> = defaults(op, operands);
  for (const [name, type] of Object.entries(spec.attrs)) {
    const value = attrs[name];
    if (value === undefined && name in values) continue;
    if (typeof value !== type.replace('?', '') || Number.isNaN(value)) {
      const expected = type.replace('?', '');
      throw invalid(`Expected a ${expected} for attribute ${name} of ${op} but received ${describe(value)}`);
    }
    values[name] = value as number | boolean;
  }
  return { device: device!, operands: native, attrs: values };
}

function defaults(op: OpName, operands: Record<string, unknown>): Record<string, number | boolean> {
  if (op === 'linear') return { accumulate: false, fp8Activations: false };
  if (op === 'qkv_rope_cache' || op === 'q_rope') return { eps: 0, fp8Activations: false };
  if (op === 'swiftkv_project') return { fp8Activations: false, bf16Activations: false };
  if (op === 'attention_backward') {
    return { scale: 1 / Math.sqrt((operands.cache as CacheRef).pool.headDim), group: 0, accumulate: false };
  }
  if (op.startsWith('attention')) return { scale: 1 / Math.sqrt((operands.cache as CacheRef).pool.headDim) };
  return {};
}

async function run(op: OpName, operands: object, attrs: object = {}): Promise<void> {
  const call = prepare(op, operands as Record<string, unknown>, attrs as Record<string, unknown>);
  try {
    await call.device.native.run(op, call.operands, call.attrs);
  } catch (error) {
    throw toSwiftKVError(error);
  }
}

function runSync(op: OpName, operands: object, attrs: object = {}): void {
  const call = prepare(op, operands as Record<string, unknown>, attrs as Record<string, unknown>);
  try {
    call.device.native.runSync(op, call.operands, call.attrs);
  } catch (error) {
    throw toSwiftKVError(error);
  }
}

const names = Object.keys(opSpecs) as OpName[];
const functions = <Result>(call: (op: OpName, operands: object, attrs?: object) => Result): OpFunctions<Result> =>
  Object.fromEntries(
    names.map((op) => [op, (operands: object, attrs?: object) => call(op, operands, attrs)]),
  ) as unknown as OpFunctions<Result>;

/**
 * `await ops.rms_norm({ x, w, out }, { eps })`: runs one op off the JavaScript thread, writing its output operands.
 * `ops.sync.rms_norm(...)` does the same on the calling thread. All operands belong to one device.
 * Errors (rejections; thrown by `sync`): `ERR_INVALID_ARGUMENT` for missing or unknown operands, shapes and dtypes that do
 * not fit together, and data out of range (an id, a position, a slot); `ERR_DISPOSED`; `ERR_UNSUPPORTED` for a
 * combination that the backend does not have.
 */
export const ops: Ops = Object.freeze({ ...functions(run), sync: Object.freeze(functions(runSync)) });
