// Memory that is not there is an error at load with the sum that did not fit, not the end of the process.

import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { Engine } from '../../../lib/engine/engine.ts';
import { survives } from './support.ts';

const probe = spawnSync('prlimit', ['--as=4294967296:', 'true']);
const reason = probe.error?.message ?? (probe.status === 0 ? null : String(probe.stderr));
if (reason !== null) console.warn(`skipped: no limit on address space can be set here (${reason.trim()})`);

test.skipIf(reason !== null)('address space runs out while a model is loaded', { timeout: 60_000 }, async () => {
  await survives('address-space.mjs');
});

test('a pool larger than the machine is refused before anything is allocated', async () => {
  await expect(Engine.load('embedded:base', { kvCacheBytes: 2 ** 50 })).rejects.toMatchObject({
    code: 'ERR_OUT_OF_MEMORY',
    message: expect.stringMatching(/The model needs 1024\.\d TiB: .*KV cache 1024\.0 TiB.*Lower kvCacheBytes/),
  });
});
