// The cgroups that this process is in, from its own up to the root, of version 1 and 2: a limit may be set on any of them.

import { readFileSync } from 'node:fs';

/** Reads a small text file, or null where there is none. */
export type ReadText = (path: string) => string | null;

export const readText: ReadText = (path) => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
};

export interface Cgroup {
  version: 1 | 2;
  /** Folder of its files. */
  dir: string;
}

/** Where a version 1 controller is mounted: alone, or beside the one that it is always mounted with. */
const mounts = { memory: ['memory'], cpu: ['cpu', 'cpu,cpuacct', 'cpuacct,cpu'] } as const;
/** The second one where version 1 has the controllers and version 2 only the processes. */
const mounts2 = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'];

/** Folders that may or may not exist: in a container the own path may be hidden, and the mount's root is the own group. */
export function cgroupsOf(controller: keyof typeof mounts, read: ReadText = readText): Cgroup[] {
  const groups: Cgroup[] = [];
  for (const line of (read('/proc/self/cgroup') ?? '').split('\n')) {
    // "0::/path" (version 2) or "4:cpu,cpuacct:/path" (version 1)
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (path === undefined) continue;
    if (controllers === '') {
      for (const mount of mounts2) groups.push(...walkUp(2, mount, path));
    } else if (controllers!.split(',').includes(controller)) {
      for (const mount of mounts[controller]) groups.push(...walkUp(1, `/sys/fs/cgroup/${mount}`, path));
    }
  }
  return groups;
}

function walkUp(version: 1 | 2, mount: string, path: string): Cgroup[] {
  const parts = path.split('/').filter((part) => part !== '');
  return Array.from({ length: parts.length + 1 }, (_, up) => ({
    version,
    dir: [mount, ...parts.slice(0, parts.length - up)].join('/'),
  }));
}

/** A number alone in a file; null where there is no file, and for "max". */
export function readNumber(read: ReadText, path: string): number | null {
  const text = read(path)?.trim();
  return text !== undefined && /^-?\d+$/.test(text) ? Number(text) : null;
}
