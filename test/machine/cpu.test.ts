// A container's quota, not the machine's processors, says how many threads are worth having.

import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { chooseThreads } from '../../lib/kernels/choose.ts';
import { cpuInfo, cpuQuota } from '../../lib/machine/cpu.ts';

const read = (files: Record<string, string>) => (path: string) => files[path] ?? null;

describe('the quota', () => {
  it.each<[string, Record<string, string>, number | null]>([
    [
      'of version 2, in the own group',
      { '/proc/self/cgroup': '0::/a\n', '/sys/fs/cgroup/a/cpu.max': '250000 100000\n' },
      2.5,
    ],
    [
      'of version 2, the tightest of three levels',
      {
        '/proc/self/cgroup': '0::/pod/box\n',
        '/sys/fs/cgroup/cpu.max': '800000 100000\n',
        '/sys/fs/cgroup/pod/cpu.max': '50000 100000\n',
        '/sys/fs/cgroup/pod/box/cpu.max': 'max 100000\n',
      },
      0.5,
    ],
    ['of version 2, unlimited', { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': 'max 100000\n' }, null],
    [
      'of version 1, in the own group',
      {
        '/proc/self/cgroup': '4:cpu,cpuacct:/docker/x\n2:memory:/y\n',
        '/sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us': '150000\n',
        '/sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us': '50000\n',
      },
      3,
    ],
    [
      'of version 1, where only the mount shows, under both names',
      {
        '/proc/self/cgroup': '4:cpu,cpuacct:/docker/x\n',
        '/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us': '100000\n',
        '/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us': '100000\n',
      },
      1,
    ],
    [
      'of version 1, unlimited',
      {
        '/proc/self/cgroup': '1:cpu:/\n',
        '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n',
        '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
      },
      null,
    ],
    ['where there are no cgroups', {}, null],
    ['from files that say nothing', { '/proc/self/cgroup': 'x\n0::/\n', '/sys/fs/cgroup/cpu.max': '0 0\n' }, null],
  ])('%s', (_, files, expected) => {
    expect(cpuQuota(read(files))).toBe(expected);
  });

  it('of this machine is a number above 0, or none', () => {
    const { quota } = cpuInfo();
    expect(quota === null || quota > 0).toBe(true);
    expect(chooseThreads(cpuInfo())).toBeGreaterThanOrEqual(1);
  });
});

describe('affinity', () => {
  it.skipIf(process.platform !== 'linux')('on one processor there is one thread', () => {
    const device = new URL('../../dist/kernels/index.js', import.meta.url).href;
    const script = `import { openDevice } from ${JSON.stringify(device)}; const d = openDevice(); console.log(d.threads)`;
    const run = spawnSync('taskset', ['-c', '0', process.execPath, '--input-type=module', '-e', script], {
      encoding: 'utf8',
    });
    expect(run.error).toBeUndefined();
    expect([run.stdout, run.status]).toEqual(['1\n', 0]);
  });
});
