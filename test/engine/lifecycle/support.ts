// Runs a script of programs/ in a process of its own: a crash, a hang or an unhandled rejection is then a result.

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';

export interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Long enough for a busy machine; a script that is still there is killed, which its outcome shows. */
const hangMs = 140_000;

export function runScript(script: string, ...args: string[]): Promise<Outcome> {
  const path = fileURLToPath(new URL(`programs/${script}`, import.meta.url));
  const child = spawn(process.execPath, ['--expose-gc', path, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: hangMs,
    killSignal: 'SIGKILL',
  });
  const outcome: Outcome = { code: null, signal: null, stdout: '', stderr: '' };
  child.stdout.on('data', (text) => {
    outcome.stdout += text;
  });
  child.stderr.on('data', (text) => {
    outcome.stderr += text;
  });
  return new Promise((resolve) => child.on('close', (code, signal) => resolve({ ...outcome, code, signal })));
}

/** The script ran to its last line, and nothing was said on the way. */
export async function survives(script: string, ...args: string[]): Promise<void> {
  expect(await runScript(script, ...args)).toEqual({ code: 0, signal: null, stdout: 'survived\n', stderr: '' });
}
