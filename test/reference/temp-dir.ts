// A folder that lasts as long as a test file.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

/** Call at the top of a test file; removed when its tests are done. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'swiftkv-test-'));
  afterAll(() => rm(folder, { recursive: true, force: true }));
  return folder;
}
