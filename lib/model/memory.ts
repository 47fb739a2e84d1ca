// How much memory this process may still take: the machine's, and every cgroup's on the way to ours. Memory is touched
// when it is allocated, and the kernel kills who takes too much; so the sum is compared before, not after.

import { readFileSync } from 'node:fs';
import { freemem } from 'node:os';

/** Reads a small text file, or null where there is none. */
export type ReadText = (path: string) => string | null;

const readText: ReadText = (path) => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
};

/** Bytes. Page cache counts as available, on the machine and in the cgroup, since it gives way. */
export function availableMemory(read: ReadText = readText, free: () => number = freemem): number {
  const meminfo = /^MemAvailable:\s+(\d+) kB$/m.exec(read('/proc/meminfo') ?? '');
  const machine = meminfo ? Number(meminfo[1]) * 1024 : free();
  return Math.max(0, Math.min(machine, ...cgroupRooms(read)));
}

/** Limit minus use, of every cgroup that limits us. */
function cgroupRooms(read: ReadText): number[] {
  const rooms: number[] = [];
  for (const line of (read('/proc/self/cgroup') ?? '').split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (path === undefined) continue;
    if (controllers === '') {
      rooms.push(...walkUp('/sys/fs/cgroup', path, read, 'memory.max', 'memory.current', 'inactive_file'));
    } else if (controllers!.split(',').includes('memory')) {
      const files = ['memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file'] as const;
      rooms.push(...walkUp('/sys/fs/cgroup/memory', path, read, ...files));
    }
  }
  return rooms;
}

/** In a container the own path may not be visible, but the mount's root is then the own group. */
function walkUp(
  root: string,
  path: string,
  read: ReadText,
  limitFile: string,
  usageFile: string,
  reclaimable: string,
): number[] {
  const parts = path.split('/').filter((part) => part !== '');
  const rooms: number[] = [];
  for (let depth = parts.length; depth >= 0; depth--) {
    const dir = [root, ...parts.slice(0, depth)].join('/');
    const limit = Number(read(`${dir}/${limitFile}`) ?? Number.NaN); // "max" is no number either
    const usage = Number(read(`${dir}/${usageFile}`) ?? Number.NaN);
    if (Number.isNaN(limit) || Number.isNaN(usage)) continue;
    const cached = new RegExp(`^${reclaimable} (\\d+)$`, 'm').exec(read(`${dir}/memory.stat`) ?? '');
    rooms.push(limit - usage + Number(cached?.[1] ?? 0));
  }
  return rooms;
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
