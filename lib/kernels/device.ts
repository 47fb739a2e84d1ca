// An opened backend for callers of single ops: chooses level and threads once, then only hands out native objects.

import { cpuInfo } from '../machine/cpu.ts';
import type { NativeBinding, NativeDevice, NativeDeviceInfo } from '../native/binding.ts';
import { native } from '../native/load.ts';
import { type DeviceName, type OpenedBackend, openBackend, parseDevice } from './backend.ts';

export type { DeviceName, NativeDeviceInfo };

export interface DeviceOptions {
  /** `cpu` (default), `cuda` or `cuda:N`. */
  backend?: DeviceName | undefined;
  /** Threads that compute, the caller included; by default what affinity and the cgroup quota allow. */
  threads?: number | undefined;
  /** cpu: ISA level, one of `cpuInfo().levels`, or `best` (the default). */
  level?: string | undefined;
  /** Bits of a row never depend on the rows beside it (default). False lets cuda choose what is faster for a call. */
  batchInvariant?: boolean | undefined;
  /** Bytes of the device's memory that may be taken; default: all. Not for cpu. */
  memoryLimit?: number | undefined;
}

export { cpuInfo };

/**
 * Opens a backend. Every tensor, cache and sampler table belongs to one device and dies with it.
 * Throws `ERR_INVALID_ARGUMENT` for an unknown backend, level or thread count, `ERR_UNSUPPORTED` where the backend has
 * not been built or has no device, `ERR_NATIVE_LOAD` without an addon.
 */
export function openDevice(options: DeviceOptions = {}): Device {
  const { backend = 'cpu', threads, level, batchInvariant, memoryLimit } = options;
  parseDevice(backend, 'backend');
  const binding = native();
  const opened = openBackend(binding, { device: backend, threads, isa: level, batchInvariant, memoryLimit });
  return new Device(binding, opened);
}

export class Device {
  /** @internal */
  readonly binding: NativeBinding;
  /** @internal */
  readonly native: NativeDevice;
  /** What the kernels are compiled for: the ISA level that runs, e.g. `avx512`, or an architecture, e.g. `sm_90`. */
  readonly level: string;
  /** What the device is, as it was when it was opened; null for `cpu`. */
  readonly info: NativeDeviceInfo | null;
  #disposed = false;

  /** @internal Use `openDevice`. */
  constructor(binding: NativeBinding, { native, level, info }: OpenedBackend) {
    this.binding = binding;
    this.native = native;
    this.level = level;
    this.info = info;
  }

  get backend(): string {
    return this.native.backend;
  }

  get threads(): number {
    return this.native.threads;
  }

  /** Bytes that tensors, caches and sampler tables of this device hold now. */
  get allocatedBytes(): number {
    return this.native.allocatedBytes;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** Waits for the op in flight, then frees everything that belongs to the device. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.native.close();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
