// The addon under environments that end at any moment. Each test is a process of its own: a crash is its outcome.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { runProgram } from './support.ts';

const folder = mkdtempSync(join(tmpdir(), 'swiftkv-lifetime-'));
afterAll(() => rmSync(folder, { recursive: true }));
const weights = join(folder, 'weights.bin');

const seed = String(Date.now() % 1_000_000);

test(`20 rounds of workers terminated in the middle of everything (seed ${seed})`, { timeout: 240_000 }, async () => {
  const outcome = await runProgram('terminate.mjs', weights, '20', seed);
  expect(outcome).toMatchObject({ code: 0, signal: null, output: 'survived\n' });
});

test.each([0, 1, 10, 50, 150])('process.exit after %i ms of work ends at once', async (wait) => {
  const outcome = await runProgram('exit.mjs', weights, String(wait), 'exit');
  expect(outcome).toMatchObject({ code: 0, signal: null, output: 'ending\n' });
  expect(outcome.ms).toBeLessThan(wait + 15_000);
});

test('process.exit with a worker at work', async () => {
  const outcome = await runProgram('exit.mjs', weights, '120', 'exit with a worker');
  expect(outcome).toMatchObject({ code: 0, signal: null, output: 'ending\n' });
});

test('an uncaught error with work in flight ends the process as Node does', async () => {
  const outcome = await runProgram('exit.mjs', weights, '50', 'throw');
  expect(outcome).toMatchObject({ code: 1, signal: null });
  expect(outcome.output).toContain('on purpose');
});

test('the event loop lives while work pends, and no longer', async () => {
  const outcome = await runProgram('pending.mjs');
  expect(outcome).toMatchObject({ code: 0, output: 'first\nsecond\nend\n' });
});

test('several environments compute the same at once, and workers end by themselves', async () => {
  const outcome = await runProgram('environments.mjs');
  expect(outcome).toMatchObject({ code: 0, output: 'equal\n' });
});

const prlimit = spawnSync('prlimit', ['--as=4294967296:', 'true']);
const cannotLimit = prlimit.error?.message ?? (prlimit.status === 0 ? null : String(prlimit.stderr));
if (cannotLimit !== null) console.warn(`skipped: address space cannot be limited here (${cannotLimit.trim()})`);

test.skipIf(cannotLimit !== null)('memory ends in every entry that allocates: a code, and no crash', async () => {
  const outcome = await runProgram('no-memory.mjs', weights);
  expect(outcome).toMatchObject({ code: 0, signal: null, output: 'survived\n' });
});
