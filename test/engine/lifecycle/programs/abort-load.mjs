// A load is stopped at every turn of its first ones, then ever later, by its signal: ERR_ABORTED, and no native memory stays.

import { codeOf, Engine, fail, load, small } from './engine.mjs';

const probe = await load();
let aborted = 0;
for (let turns = 0; ; turns = Math.ceil(turns < 40 ? turns + 1 : turns * 1.2)) {
  const controller = new AbortController();
  const loading = Engine.load('embedded:swiftkv-50', { ...small, signal: controller.signal });
  let engine = null;
  loading.then(
    (e) => {
      engine = e;
    },
    () => {},
  );
  for (let i = 0; i < turns && engine === null; i++) await new Promise(setImmediate);
  controller.abort();
  const code = await codeOf(loading);
  if (code === 'resolved') {
    await (await loading).dispose();
    if (engine === null) continue; // loaded in the very turn
    break;
  }
  if (code !== 'ERR_ABORTED') fail(`after ${turns} turns: ${code}`);
  aborted++;
  const { environment, engine: own } = probe.memory();
  if (environment.total !== own.total) fail(`after ${turns} turns ${environment.total - own.total} bytes are held`);
}
if (aborted < 20) fail(`only ${aborted} loads were aborted`);
const answer = await probe.generate({ prompt: 'Once', maxTokens: 3 }).result();
if (answer.tokenIds.length !== 3) fail('the engine beside it answers no more');
await probe.dispose();
console.log('survived');
