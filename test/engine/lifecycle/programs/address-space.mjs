// Runs in as little address space as a load leaves: what does not fit is refused with the sum, and what fits works after.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { codeOf, fail, load } from './engine.mjs';

const MiB = 2 ** 20;
const limit = (bytes) => execFileSync('prlimit', ['--pid', String(process.pid), `--as=${bytes}:`]);
const vmSize = () => Number(/^VmSize:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;

async function answer(options) {
  const engine = await load(options);
  const { tokenIds } = await engine.generate({ prompt: 'Once', maxTokens: 4, temperature: 0 }).result();
  await engine.dispose();
  return String(tokenIds);
}

const expected = await answer();
for (const room of [64, 96, 160]) {
  limit(vmSize() + room * MiB);
  let error = null;
  await load({ kvCacheBytes: 512 * MiB }).catch((e) => {
    error = e;
  });
  if (error?.code !== 'ERR_OUT_OF_MEMORY') fail(`with ${room} MiB: ${error?.stack ?? 'loaded'}`);
  if (!/The model needs .*KV cache 512\.0 MiB.*available are/.test(error.message)) fail(error.message);
  if ((await codeOf(load({ maxBatchRows: 16_384 }))) !== 'ERR_OUT_OF_MEMORY') fail('the workspace fitted');
  if ((await answer()) !== expected) fail('a smaller load gives another answer');
}
const last = await load();
await last.dispose();
if (last.memory().environment.total !== 0) fail(JSON.stringify(last.memory()));
console.log('survived');
