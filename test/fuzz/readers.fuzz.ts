// `npm run fuzz`: 20,000 damaged model folders, or as many as 55 seconds allow. A failure prints its seed and path: give
// the seed to fuzzReaders to see it again.

import { expect, it } from 'vitest';
import { temporaryFolder } from '../reference/temp-dir.ts';
import { describeFuzz, fuzzReaders } from './fuzz-readers.ts';

const folder = await temporaryFolder();

it('20,000 damaged folders: no crash, no defect, no memory beyond the size of the files', {
  timeout: 120_000,
}, async () => {
  const report = await fuzzReaders(folder, { inputs: 20_000, milliseconds: 55_000 });
  console.log(describeFuzz(report));
  expect(report.codes['ERR_MODEL_INVALID']).toBeGreaterThan(0);
});
