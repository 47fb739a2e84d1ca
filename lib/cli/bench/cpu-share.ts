// What other processes took of the machine's CPU time while something was measured. Linux tells; elsewhere it is
// unknown.

import { readFileSync } from 'node:fs';

/** A moment, in CPU milliseconds since some start. */
export interface CpuReading {
  /** Wall time. */
  atMs: number;
  cpus: number;
  /** All processes, summed over the CPUs; time stolen by a hypervisor included. */
  busyMs: number;
  /** This process, all threads. */
  ownMs: number;
}

/** Units of /proc/stat: user space sees 100 a second on every Linux. */
const msPerTick = 10;
/** A shorter window has too few ticks to say anything. */
const minTicks = 20;
/** A share that does not disturb. */
export const quietShare = 0.05;

export type ReadStat = () => string | null;

const readStat: ReadStat = () => {
  try {
    return readFileSync('/proc/stat', 'utf8');
  } catch {
    return null;
  }
};

export function readCpu(read: ReadStat = readStat): CpuReading | null {
  const text = read();
  if (text === null) return null;
  const total = /^cpu +(.*)$/m.exec(text)?.[1];
  const cpus = text.match(/^cpu\d+ /gm)?.length ?? 0;
  if (total === undefined || cpus === 0) return null;
  // user, nice, system, idle, iowait, irq, softirq, steal
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = total.split(' ').map(Number);
  const own = process.cpuUsage();
  return {
    atMs: performance.now(),
    cpus,
    busyMs: (user + nice + system + irq + softirq + steal) * msPerTick,
    ownMs: (own.user + own.system) / 1000,
  };
}

/** 0 to 1 of the machine's CPU time between two readings; null = unknown. */
export function othersShare(before: CpuReading | null, after: CpuReading | null): number | null {
  if (before === null || after === null) return null;
  const capacity = (after.atMs - before.atMs) * after.cpus;
  if (capacity < minTicks * msPerTick) return null;
  const others = after.busyMs - before.busyMs - (after.ownMs - before.ownMs);
  return Math.min(1, Math.max(0, others / capacity));
}

/** Whether others took more than what `threads` threads of ours leave free, and a little. Unknown counts as quiet. */
export function isDisturbed(others: number | null, threads: number, cpus: number): boolean {
  if (others === null) return false;
  return others > Math.max(0, 1 - threads / cpus) + quietShare;
}

export function formatShare(share: number | null): string {
  return share === null ? 'unknown' : `${(share * 100).toFixed(0)}%`;
}
