// 'swiftkv/kernels': the ops of the engine, one at a time, over tensors and paged caches that the caller owns.

export { type ErrorCode, SwiftKVError } from '../errors.ts';
export type { CpuInfo, DType, Layout } from '../native/binding.ts';
export { convert, convertBack } from './convert.ts';
export {
  cpuInfo,
  type Device,
  type DeviceName,
  type DeviceOptions,
  type NativeDeviceInfo,
  openDevice,
} from './device.ts';
export type { AttentionAttrs, AttentionOperands, OpAttrs, OpName, OpOperands, OpSignatures } from './op-signatures.ts';
export { type Ops, ops, type SyncOps } from './ops.ts';
export { type BlockTable, type CacheRef, PagedKVCache, type PagedKVCacheOptions } from './paged-kv-cache.ts';
export { describeRows, type RowsDescription, type SequenceRows } from './rows.ts';
export { type SamplerOptions, SamplerTable } from './sampler-table.ts';
export { Tensor, type TensorOptions } from './tensor.ts';
