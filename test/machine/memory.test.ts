// Memory is counted before it is taken: pages that do not exist end the process, not the load.

import { describe, expect, it } from 'vitest';
import { allocateFloats, availableMemory, formatBytes } from '../../lib/machine/memory.ts';

describe('available memory', () => {
  const machine = 'MemTotal: 100 kB\nMemAvailable:       1000 kB\n';
  const read = (files: Record<string, string>) => (path: string) => files[path] ?? null;

  it('is the machine’s where no cgroup limits', () => {
    const files = {
      '/proc/meminfo': machine,
      '/proc/self/cgroup': '0::/\n',
      '/sys/fs/cgroup/memory.max': 'max\n',
      '/sys/fs/cgroup/memory.current': '5\n',
    };
    expect(availableMemory(read(files))).toBe(1_024_000);
  });

  it('is what the tightest cgroup above us leaves, its page cache given back', () => {
    const files = {
      '/proc/meminfo': machine,
      '/proc/self/cgroup': '0::/pod/box\n',
      '/sys/fs/cgroup/pod/memory.max': '900000\n',
      '/sys/fs/cgroup/pod/memory.current': '500000\n',
      '/sys/fs/cgroup/pod/memory.stat': 'anon 1\ninactive_file 300000\n',
      '/sys/fs/cgroup/pod/box/memory.max': 'max\n',
      '/sys/fs/cgroup/pod/box/memory.current': '1\n',
    };
    expect(availableMemory(read(files))).toBe(700_000);
  });

  it('reads version 1, also where only the mount shows', () => {
    const files = {
      '/proc/meminfo': machine,
      '/proc/self/cgroup': '4:cpu,memory:/docker/abc\n1:cpu:/\n',
      '/sys/fs/cgroup/memory/memory.limit_in_bytes': '600000\n',
      '/sys/fs/cgroup/memory/memory.usage_in_bytes': '200000\n',
      '/sys/fs/cgroup/memory/memory.stat': 'total_inactive_file 50000\n',
    };
    expect(availableMemory(read(files))).toBe(450_000);
  });

  it('stops where memory.high throttles, before memory.max kills', () => {
    const files = {
      '/proc/meminfo': machine,
      '/proc/self/cgroup': '0::/box\n',
      '/sys/fs/cgroup/box/memory.max': '900000\n',
      '/sys/fs/cgroup/box/memory.high': '400000\n',
      '/sys/fs/cgroup/box/memory.current': '100000\n',
    };
    expect(availableMemory(read(files))).toBe(300_000);
  });

  it('does not count swap, and counts what has been swapped out already where the limit does', () => {
    const files = {
      '/proc/meminfo': `${machine}SwapFree: 900000 kB\n`,
      '/proc/self/cgroup': '3:memory:/box\n',
      '/sys/fs/cgroup/memory/box/memory.limit_in_bytes': '900000\n',
      '/sys/fs/cgroup/memory/box/memory.usage_in_bytes': '300000\n',
      '/sys/fs/cgroup/memory/box/memory.memsw.limit_in_bytes': '900000\n',
      '/sys/fs/cgroup/memory/box/memory.memsw.usage_in_bytes': '700000\n',
    };
    expect(availableMemory(read(files))).toBe(200_000);
  });

  it('is nothing, not less, in a cgroup over its limit, and unaffected by files that say nothing', () => {
    const over = { '/sys/fs/cgroup/memory.max': '10\n', '/sys/fs/cgroup/memory.current': '20\n' };
    expect(availableMemory(read({ '/proc/meminfo': machine, '/proc/self/cgroup': '0::/\n', ...over }))).toBe(0);
    const empty = { '/sys/fs/cgroup/memory.max': '', '/sys/fs/cgroup/memory.current': 'x\n' };
    expect(availableMemory(read({ '/proc/meminfo': machine, '/proc/self/cgroup': '0::/\n', ...empty }))).toBe(
      1_024_000,
    );
  });

  it('asks the system elsewhere', () => {
    expect(
      availableMemory(
        () => null,
        () => 77,
      ),
    ).toBe(77);
  });

  it('is written for people', () => {
    expect([512, 2048, 1.5 * 2 ** 30].map(formatBytes)).toEqual(['512 bytes', '2.0 KiB', '1.5 GiB']);
  });
});

it('a result that has no room on this side is an error with a code too', () => {
  expect(allocateFloats(3, 'test')).toEqual(new Float32Array(3));
  expect(() => allocateFloats(2 ** 50, 'test')).toThrow(
    expect.objectContaining({ code: 'ERR_OUT_OF_MEMORY', message: expect.stringContaining('4096.0 TiB') }),
  );
});
