// Memory that is not there is an error at load with the sum that did not fit, not the end of the process.

import { execFile, spawnSync } from 'node:child_process';
import { accessSync, constants, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { Engine } from '../../../lib/engine/engine.ts';
import { survives } from './support.ts';

const probe = spawnSync('prlimit', ['--as=4294967296:', 'true']);
const reason = probe.error?.message ?? (probe.status === 0 ? null : String(probe.stderr));
if (reason !== null) console.warn(`skipped: no limit on address space can be set here (${reason.trim()})`);

test.skipIf(reason !== null)('address space runs out while a model is loaded', { timeout: 60_000 }, async () => {
  await survives('address-space.mjs');
});

/** A cgroup of its own that limits memory, or why there is none. */
function limitedCgroup(bytes: number): { dir: string } | { reason: string } {
  const reasons: string[] = [];
  for (const [mount, limit] of [
    ['/sys/fs/cgroup/memory', 'memory.limit_in_bytes'],
    ['/sys/fs/cgroup', 'memory.max'],
  ] as const) {
    const dir = `${mount}/swiftkv-test-${process.pid}`;
    try {
      // On anything but a cgroup mount a folder would be a folder.
      accessSync(`${mount}/cgroup.procs`, constants.W_OK);
      mkdirSync(dir);
      try {
        writeFileSync(`${dir}/${limit}`, String(bytes), { flag: 'r+' });
        return { dir };
      } catch (error) {
        rmdirSync(dir);
        throw error;
      }
    } catch (error) {
      reasons.push(String(error));
    }
  }
  return { reason: reasons.join('; ') };
}

test('a cgroup limits memory: what does not fit is refused, and nobody is killed', { timeout: 120_000 }, async (t) => {
  const cgroup = limitedCgroup(240 * 2 ** 20);
  if ('reason' in cgroup) {
    console.warn(`skipped: no cgroup with a limit can be made here (${cgroup.reason})`);
    return t.skip();
  }
  try {
    const script = fileURLToPath(new URL('programs/memory-limit.mjs', import.meta.url));
    const line = 'echo $$ > "$0/cgroup.procs" && exec "$1" "$2"';
    const run = promisify(execFile)('sh', ['-c', line, cgroup.dir, process.execPath, script]);
    expect(await run).toEqual({ stdout: 'survived\n', stderr: '' });
  } finally {
    // Pages of a process that has just ended may still be charged.
    for (let i = 0; i < 20; i++) {
      try {
        rmdirSync(cgroup.dir);
        break;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }
});

test('a pool larger than the machine is refused before anything is allocated', async () => {
  await expect(Engine.load('embedded:base', { kvCacheBytes: 2 ** 50 })).rejects.toMatchObject({
    code: 'ERR_OUT_OF_MEMORY',
    message: expect.stringMatching(/The model needs 1024\.\d TiB: .*KV cache 1024\.0 TiB.*Lower kvCacheBytes/),
  });
});
