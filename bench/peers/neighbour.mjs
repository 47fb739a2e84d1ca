// A process that keeps one processor busy, on demand.

import { spawn, spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';

/** Pinned to the last processor where `taskset` exists; asleep at first. */
export function startNeighbour() {
  const spin = [process.execPath, '-e', 'for (;;);'];
  const pinned = spawnSync('taskset', ['-V']).status === 0;
  const command = pinned ? ['taskset', '-c', String(availableParallelism() - 1), ...spin] : spin;
  const child = spawn(command[0], command.slice(1), { stdio: 'ignore' });
  const end = () => child.kill('SIGKILL');
  process.once('exit', end);
  child.kill('SIGSTOP');
  return {
    pid: child.pid,
    pinned,
    busy: () => child.kill('SIGCONT'),
    asleep: () => child.kill('SIGSTOP'),
    end,
  };
}
