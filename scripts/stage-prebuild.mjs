// Before packing: puts the stripped addon where the loader of an installed package looks for it.
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
copyFileSync(built, `${folder}/swiftkv.node`);
if (process.platform === 'linux') execFileSync('strip', ['--strip-unneeded', `${folder}/swiftkv.node`]);
