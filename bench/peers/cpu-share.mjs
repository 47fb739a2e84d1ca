// How much of the machine others took while something was measured. Linux only: elsewhere the share is null.

import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';

/** Linux counts processor time in hundredths of a second. */
const msPerTick = 10;

/** Busy milliseconds of all processors since the start of the machine, time stolen by its host among them. */
function busyMs() {
  const [user, nice, system, , , irq, softirq, steal] = readFileSync('/proc/stat', 'utf8')
    .split('\n', 1)[0]
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return (user + nice + system + irq + softirq + steal) * msPerTick;
}

/** Of one process, all of its threads. */
function processMs(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const [user, system] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13)
    .map(Number);
  return (user + system) * msPerTick;
}

/**
 * Starts counting; the function that comes back says what happened since. `others`: the share of all processors that
 * neither this process nor those in `pids` took, 0 to 1. `processors`: how many this process kept busy.
 */
export function countProcessors(pids = []) {
  if (process.platform !== 'linux') return () => ({ others: null, processors: null });
  const sum = (all) => all.reduce((total, pid) => total + processMs(pid), 0);
  const read = () => ({ at: performance.now(), busy: busyMs(), own: processMs(process.pid), known: sum(pids) });
  const start = read();
  return () => {
    const end = read();
    const elapsed = end.at - start.at;
    const own = end.own - start.own;
    const others = end.busy - start.busy - own - (end.known - start.known);
    return { others: Math.max(0, others) / (elapsed * availableParallelism()), processors: own / elapsed };
  };
}
