// Before packing: puts the stripped addon where the loader of an installed package looks for it, and the library of the
// cuda backend beside it where that has been built (npm run build:cuda).
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const built = `${root}build/Release/swiftkv.node`;
if (!existsSync(built)) {
  console.error(`stage-prebuild: ${built} does not exist; run \`npm run build:native\` first`);
  process.exit(1);
}
const folder = `${root}prebuilds/${process.platform}-${process.arch}`;
rmSync(`${root}prebuilds`, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
for (const file of ['swiftkv.node', 'libswiftkv_cuda.so']) {
  const from = `${root}build/Release/${file}`;
  if (!existsSync(from)) continue;
  copyFileSync(from, `${folder}/${file}`);
  if (process.platform === 'linux') execFileSync('strip', ['--strip-unneeded', `${folder}/${file}`]);
}
