// An opened backend for callers of single ops: chooses level and threads once, then only hands out native objects.

import { SwiftKVError, toSwiftKVError } from '../errors.ts';
import { cpuInfo } from '../machine/cpu.ts';
import type { NativeBinding, NativeDevice } from '../native/binding.ts';
import { native } from '../native/load.ts';
import { chooseLevel, chooseThreads } from './choose.ts';

export interface DeviceOptions {
  /** Only `cpu` in this version. */
  backend?: 'cpu';
  /** Threads that compute, the caller included; by default what affinity and the cgroup quota allow. */
  threads?: number;
  /** ISA level, one of `cpuInfo().levels`, or `best` (the default). */
  level?: string;
}

export { cpuInfo };

/**
 * Opens a backend. Every tensor, cache and sampler table belongs to one device and dies with it.
 * Throws `ERR_INVALID_ARGUMENT` for an unknown backend, level or thread count, `ERR_NATIVE_LOAD` without an addon.
 */
export function openDevice(options: DeviceOptions = {}): Device {
  const backend = options.backend ?? 'cpu';
  if (backend !== 'cpu') {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected cpu for backend but received ${String(backend)}`);
  }
  const binding = native();
  const cpu = cpuInfo();
  const level = chooseLevel(cpu, options.level);
  const threads = chooseThreads(cpu, options.threads);
  try {
    return new Device(binding, binding.openDevice({ backend, threads, level }), level);
  } catch (error) {
    throw toSwiftKVError(error);
  }
}

export class Device {
  /** @internal */
  readonly binding: NativeBinding;
  /** @internal */
  readonly native: NativeDevice;
  /** The ISA level that runs, e.g. `avx512`. */
  readonly level: string;
  #disposed = false;

  /** @internal Use `openDevice`. */
  constructor(binding: NativeBinding, native: NativeDevice, level: string) {
    this.binding = binding;
    this.native = native;
    this.level = level;
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
