// Tests of a backend that is not there must fail, and say what to do.

import { existsSync } from 'node:fs';
import { sideLibrary } from '../../lib/native/load.ts';

export default function setup(): void {
  const path = sideLibrary('simt');
  if (!existsSync(path)) throw new Error(`${path} does not exist: run \`npm run build:simt\` first`);
}
