// swiftkv convert, as a user runs it.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../reference/temp-dir.ts';
import { swiftkv } from './run.ts';

const folder = await temporaryFolder();

it('writes a student, says what it is, and refuses to write it twice', async () => {
  const out = join(folder, 'student');
  const args = ['convert', 'embedded:base', '--kv-layers', '50%', '--group-size', '2', '--out', out];
  const first = await swiftkv(args);
  expect(first.stderr).toContain('llama_swiftkv, layers 0 to 3 of 8 keep their K and V, groups of 2, 9 tensors added');
  expect(first.code).toBe(0);
  const config = JSON.parse(await readFile(join(out, 'config.json'), 'utf8'));
  expect(config).toMatchObject({ num_key_value_layers: 4, key_value_group_size: 2, swiftkv: true });
  const again = await swiftkv(args);
  expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('Expected a new or empty folder')]);
});

it('says which group sizes would do', async () => {
  const { code, stderr } = await swiftkv([
    'convert',
    'embedded:base',
    '--kv-layers',
    '4',
    '--group-size',
    '3',
    '--out',
    folder,
  ]);
  expect([code, stderr]).toEqual([1, expect.stringContaining('(1, 2, 4) but received 3 (ERR_INVALID_ARGUMENT)')]);
});
