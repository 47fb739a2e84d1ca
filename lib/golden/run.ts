// npm run test:golden -- --dir DIR --device cpu: compares the package with the reference's outputs in a folder.

import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { parseDevice } from '../kernels/backend.ts';
import { type CaseReport, checkFolder, formatCase, formatTotal } from './report.ts';

const usage = 'npm run test:golden -- [--dir DIR] [--device cpu|cuda|cuda:N|simt] [--case TEXT] [--verbose]';

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      dir: { type: 'string', default: fileURLToPath(new URL('../../test/golden/data', import.meta.url)) },
      device: { type: 'string', default: 'cpu' },
      case: { type: 'string', default: '' },
      verbose: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return 0;
  }
  parseDevice(values.device, '--device');
  const say = (one: CaseReport) => console.log(formatCase(one, values.verbose));
  const report = await checkFolder(values.dir, values.case, say, [values.device]);
  if (report.cases.length + report.notSupported.length === 0) throw new Error(`No case is named like ${values.case}`);
  const { text, failed } = formatTotal(report);
  console.log(text);
  return failed === 0 ? 0 : 1;
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    console.error(usage);
    process.exitCode = 2;
  },
);
