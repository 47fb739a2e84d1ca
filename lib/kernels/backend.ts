// From the name of a device to an opened one: which backend, which of its devices, and with what.

import { existsSync } from 'node:fs';
import { SwiftKVError, toSwiftKVError } from '../errors.ts';
import { cpuInfo } from '../machine/cpu.ts';
import type { NativeBinding, NativeDevice, NativeDeviceInfo } from '../native/binding.ts';
import { sideLibrary } from '../native/load.ts';
import { chooseLevel, chooseThreads } from './choose.ts';

/** `simt` is host execution of the cuda kernels, for tests: built by `npm run build:simt` in a source checkout. */
export type DeviceName = 'cpu' | 'cuda' | `cuda:${number}` | 'simt' | `simt:${number}`;

export interface BackendOptions {
  device: string;
  threads?: number | undefined;
  /** cpu: the ISA level; default: the best one. */
  isa?: string | undefined;
  /** Default true. */
  batchInvariant?: boolean | undefined;
  /** Bytes of the device's memory that may be taken; default: all. Not for cpu. */
  memoryLimit?: number | undefined;
}

export interface OpenedBackend {
  native: NativeDevice;
  backend: 'cpu' | 'cuda' | 'simt';
  /** What the kernels are compiled for: an ISA level, or an architecture such as `sm_90`. */
  level: string;
  threads: number;
  /** null for cpu. `freeBytes` is from before anything was allocated. */
  info: NativeDeviceInfo | null;
}

interface ParsedDevice {
  backend: OpenedBackend['backend'];
  index: number;
}

/** @throws ERR_INVALID_ARGUMENT */
export function parseDevice(device: string, name = 'device', where = ''): ParsedDevice {
  const match = /^(?:(cpu)|(cuda|simt)(?::(\d{1,4}))?)$/.exec(device);
  if (match === null) {
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `Expected ${name} to be 'cpu', 'cuda' or 'cuda:N' but received ${JSON.stringify(device) ?? device}${where}`,
    );
  }
  return { backend: (match[1] ?? match[2]) as ParsedDevice['backend'], index: Number(match[3] ?? 0) };
}

/**
 * @throws ERR_INVALID_ARGUMENT; ERR_UNSUPPORTED where the backend has not been built or has no device, with what was
 *   found and the mend
 */
export function openBackend(binding: NativeBinding, options: BackendOptions): OpenedBackend {
  const { batchInvariant = true, memoryLimit = 0 } = options;
  const { backend, index } = parseDevice(options.device);
  const cpu = cpuInfo();
  const threads = chooseThreads(cpu, options.threads);
  const open = (library: string, level: string) => {
    try {
      return binding.openDevice({ backend: library, threads, level, batchInvariant, memoryLimit });
    } catch (error) {
      throw toSwiftKVError(error);
    }
  };
  if (backend === 'cpu') {
    if (memoryLimit !== 0) {
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        'memoryLimit is for devices with memory of their own, not for cpu',
      );
    }
    const level = chooseLevel(cpu, options.isa);
    return { native: open('cpu', level), backend, level, threads, info: null };
  }
  if (options.isa !== undefined) {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', `An ISA level is for the device cpu, not for ${options.device}`);
  }
  const native = open(requireLibrary(backend), String(index));
  try {
    const info = native.describe();
    if (info === null) throw new SwiftKVError('ERR_INTERNAL', `The backend ${backend} does not describe its device`);
    return { native, backend, level: info.arch, threads, info };
  } catch (error) {
    native.close();
    throw toSwiftKVError(error);
  }
}

function requireLibrary(backend: 'cuda' | 'simt'): string {
  const path = sideLibrary(backend);
  if (existsSync(path)) return path;
  const needs = backend === 'cuda' ? ' (it needs nvcc 13)' : '';
  throw new SwiftKVError(
    'ERR_UNSUPPORTED',
    `The backend ${backend} is not part of this build: ${path} does not exist. In a source checkout, run ` +
      `\`npm run build:${backend}\`${needs}; or use the device cpu`,
  );
}

/** CUDA's numbers as people write them: 13010 is 13.1. */
export function cudaVersion(version: number): string {
  return version === 0 ? 'none' : `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`;
}
