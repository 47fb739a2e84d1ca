// How much memory this process may still take: the machine's, and every cgroup's on the way to ours. Memory is touched
// when it is allocated, and the kernel kills who takes too much; so the sum is compared before, not after.

import { freemem } from 'node:os';
import { SwiftKVError } from '../errors.ts';
import { type Cgroup, cgroupsOf, type ReadText, readNumber, readText } from './cgroups.ts';

/** Files of a limit, of what counts against it, and the line of memory.stat that gives way. */
type Limit = readonly [limit: string, usage: string, reclaimable: string];

const limits: Readonly<Record<Cgroup['version'], readonly Limit[]>> = {
  // Above memory.high nobody is killed, but every allocation waits for reclaim: no place for weights.
  2: [
    ['memory.max', 'memory.current', 'inactive_file'],
    ['memory.high', 'memory.current', 'inactive_file'],
  ],
  // memsw: memory and swap together, so that what has been swapped out leaves less room.
  1: [
    ['memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file'],
    ['memory.memsw.limit_in_bytes', 'memory.memsw.usage_in_bytes', 'total_inactive_file'],
  ],
};

/**
 * Bytes. Page cache counts as available, on the machine and in the cgroup, since it gives way; swap does not, since a
 * step reads all weights.
 */
export function availableMemory(read: ReadText = readText, free: () => number = freemem): number {
  const meminfo = /^MemAvailable:\s+(\d+) kB$/m.exec(read('/proc/meminfo') ?? '');
  const rooms = [meminfo ? Number(meminfo[1]) * 1024 : free()];
  for (const { version, dir } of cgroupsOf('memory', read)) {
    for (const [limitFile, usageFile, reclaimable] of limits[version]) {
      const limit = readNumber(read, `${dir}/${limitFile}`);
      const usage = readNumber(read, `${dir}/${usageFile}`);
      if (limit === null || usage === null) continue;
      const cached = new RegExp(`^${reclaimable} (\\d+)$`, 'm').exec(read(`${dir}/memory.stat`) ?? '');
      rooms.push(limit - usage + Number(cached?.[1] ?? 0));
    }
  }
  return Math.max(0, Math.min(...rooms));
}

/** Zeros on the JavaScript heap's outside. @throws ERR_OUT_OF_MEMORY, where JavaScript has a RangeError */
export function allocateFloats(count: number, where: string): Float32Array<ArrayBuffer> {
  try {
    return new Float32Array(count);
  } catch (cause) {
    const message = `Could not allocate ${formatBytes(count * 4)} for the result (${where}); ask for less at a time`;
    throw new SwiftKVError('ERR_OUT_OF_MEMORY', message, { cause });
  }
}

/** 1.5 GiB, 12.0 MiB: for messages. */
export function formatBytes(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
