// bench/gpu.sh without a GPU, and what it makes of its parts' results.

import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, expect, it } from 'vitest';

const root = resolve(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'swiftkv-gpu-'));
afterAll(() => rmSync(folder, { recursive: true }));

function run(args: string[], program = 'bash') {
  const env = { ...process.env, PATH: `${folder}:${process.env['PATH']}` };
  return spawnSync(program, args, { cwd: root, env, encoding: 'utf8' });
}

it('says that there is no GPU, and exits with 2', () => {
  // Of a machine that has the program and no device.
  writeFileSync(join(folder, 'nvidia-smi'), '#!/bin/sh\necho "No devices were found"\nexit 6\n');
  chmodSync(join(folder, 'nvidia-smi'), 0o755);
  const { status, stderr, stdout } = run(['bench/gpu.sh', '--out', join(folder, 'out')]);
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  expect(stderr).toContain('no GPU here');
});

it('refuses what it does not know', () => {
  const { status, stderr } = run(['bench/gpu.sh', '--fast']);
  expect(status).toBe(2);
  expect(stderr).toContain('received --fast');
});

it.each([
  ['build\t3\tpassed\nsanitizer\t0\tskipped: none here\n', 0, '1 passed, 0 failed, 1 skipped'],
  ['build\t3\tpassed\nops\t90\tstopped after 90 s\n', 1, '1 passed, 1 failed, 0 skipped'],
  ['ops\t0\tskipped: nothing to run\n', 1, '0 passed, 0 failed, 1 skipped'],
])('counts %j', (parts, expected, line) => {
  writeFileSync(join(folder, 'parts.tsv'), parts);
  const { status, stdout } = run(['bench/gpu/results.mjs', folder], process.execPath);
  expect(stdout).toContain(line);
  expect(status).toBe(expected);
  expect(JSON.parse(readFileSync(join(folder, 'results.json'), 'utf8')).parts).toHaveLength(
    parts.trim().split('\n').length,
  );
});
