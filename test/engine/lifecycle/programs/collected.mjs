// Engines that are forgotten without dispose: the garbage collector frees what they hold, at the latest at exit.

import { fail, load, prompt } from './engine.mjs';
import { native } from './native.mjs';

async function forget(i) {
  const engine = await load({ threads: 1 });
  if (i % 2 === 0) await engine.generate({ tokenIds: prompt.slice(0, 20), maxTokens: 2 }).result();
}
let one = 0;
for (let i = 0; i < 12; i++) {
  await forget(i);
  if (i === 0) one = native.memory().total;
}
// Finalizers run in later turns, and each may let go of what holds the next.
for (let i = 0; i < 100 && native.memory().total > 0; i++) {
  global.gc();
  await new Promise((resolve) => setTimeout(resolve, 5));
}
if (native.memory().total > one) fail(`${native.memory().total} bytes of forgotten engines stay, one has ${one}`);
console.log('survived');
