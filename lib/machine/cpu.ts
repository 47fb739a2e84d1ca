// The processors this process may use: what the addon sees of them, and the time that cgroups allow.

import type { CpuInfo } from '../native/binding.ts';
import { native } from '../native/load.ts';
import { cgroupsOf, type ReadText, readNumber, readText } from './cgroups.ts';

/** CPUs' worth of time that the tightest cgroup above us allows (cpu.max, cpu.cfs_quota_us); null: no limit. */
export function cpuQuota(read: ReadText = readText): number | null {
  const quotas: number[] = [];
  for (const { version, dir } of cgroupsOf('cpu', read)) {
    const [quota, period] = version === 2 ? readCpuMax(read, dir) : readCfs(read, dir);
    // "max" is null, and -1 is what version 1 says instead.
    if (quota !== null && period !== null && quota > 0 && period > 0) quotas.push(quota / period);
  }
  return quotas.length === 0 ? null : Math.min(...quotas);
}

function readCpuMax(read: ReadText, dir: string): [number | null, number | null] {
  const [, quota, period] = /^(\d+) (\d+)\s*$/.exec(read(`${dir}/cpu.max`) ?? '') ?? [];
  return quota === undefined ? [null, null] : [Number(quota), Number(period)];
}

function readCfs(read: ReadText, dir: string): [number | null, number | null] {
  return [readNumber(read, `${dir}/cpu.cfs_quota_us`), readNumber(read, `${dir}/cpu.cfs_period_us`)];
}

/** What this machine and this build offer: ISA levels, logical processors, cgroup quota. @throws ERR_NATIVE_LOAD */
export function cpuInfo(): CpuInfo {
  return { ...native().cpuInfo(), quota: cpuQuota() };
}
