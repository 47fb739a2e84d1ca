// Puts what the parts of bench/gpu.sh left in a folder into results.json and results.md, prints the table of parts, and
// fails where a part did.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const folder = process.argv[2];
const parts = readFileSync(join(folder, 'parts.tsv'), 'utf8')
  .trim()
  .split('\n')
  .filter(Boolean)
  .map((line) => line.split('\t'))
  .map(([name, seconds, state]) => ({ name, seconds: Number(seconds), state }));
const read = (name) => (existsSync(join(folder, name)) ? JSON.parse(readFileSync(join(folder, name), 'utf8')) : null);
const results = { parts, kernels: read('kernels.json'), models: read('models.json') };
writeFileSync(join(folder, 'results.json'), `${JSON.stringify(results, null, 1)}\n`);

const table = ['| part | seconds | result |', '| --- | ---: | --- |'];
for (const { name, seconds, state } of parts) table.push(`| ${name} | ${seconds} | ${state} |`);
const sections = ['# bench/gpu.sh', table.join('\n')];
for (const name of ['kernels', 'models']) {
  const log = join(folder, `${name}.log`);
  if (existsSync(log)) sections.push(`## ${name}`, readFileSync(log, 'utf8').trim());
}
writeFileSync(join(folder, 'results.md'), `${sections.join('\n\n')}\n`);

console.log(`\n${table.join('\n')}`);
const count = (is) => parts.filter(({ state }) => is(state)).length;
const passed = count((state) => state === 'passed');
const skipped = count((state) => state.startsWith('skipped'));
const failed = parts.length - passed - skipped;
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped; ${join(folder, 'results.md')}, results.json`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
