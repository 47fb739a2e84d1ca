// What a figure is worthless without: the machine, the level, the versions, the flags. Part of every result.

import type { CpuInfo } from '../../native/binding.ts';
import { version } from '../../version.ts';

export interface BenchEnvironment {
  command: string;
  swiftkv: string;
  node: string;
  platform: string;
  cpu: string;
  /** ISA level of the kernels. */
  isa: string;
  threads: number;
  /** Logical processors that this process may use. */
  affinity: number;
  quota: number | null;
  date: string;
  flags: Record<string, unknown>;
}

export function benchEnvironment(
  command: string,
  cpu: CpuInfo,
  chosen: { isa: string; threads: number },
  flags: object,
): BenchEnvironment {
  return {
    command,
    swiftkv: version,
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    cpu: cpu.model,
    isa: chosen.isa,
    threads: chosen.threads,
    affinity: cpu.affinity,
    quota: cpu.quota,
    date: new Date().toISOString(),
    flags: { ...flags },
  };
}

export function describeEnvironment(e: BenchEnvironment): string {
  const given = Object.entries(e.flags).map(([name, value]) => `${name}=${written(value)}`);
  return (
    `swiftkv ${e.swiftkv}, Node ${e.node}, ${e.platform}, ${e.cpu}, kernels ${e.isa}, ` +
    `${e.threads} thread(s) of ${e.affinity}${e.quota === null ? '' : `, quota ${e.quota}`}\n` +
    `${e.command} ${given.join(' ')}`
  );
}

function written(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value);
  const parts = Array.isArray(value) ? value : Object.entries(value).map(([name, part]) => `${name}=${part}`);
  return parts.join(',');
}
