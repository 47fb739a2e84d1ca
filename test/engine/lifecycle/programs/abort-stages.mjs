// Aborts at every stage of an engine's life, each within one op or step of the engine: counted, not timed.

import { codeOf, fail, load, prompt } from './engine.mjs';

const engine = await load({ threads: 1 });
const idle = () => engine.info().load.running + engine.info().load.waiting === 0;
const steps = () => engine.info().load.steps;

async function settled(where, before, most) {
  // Its blocks come back with the end of the step that reads them.
  while (!idle() || engine.info().load.freeBlocks !== engine.info().numBlocks) await new Promise(setImmediate);
  for (let i = 0; i < 50; i++) await new Promise(setImmediate);
  if (steps() - before > most) fail(`${where}: ${steps() - before} steps, at most ${most} expected`);
}

// Before: nothing is started.
let before = steps();
if ((await codeOf(engine.generate({ tokenIds: prompt, signal: AbortSignal.abort() }).result())) !== 'ERR_ABORTED')
  fail('an aborted signal is not seen');
await settled('before', before, 0);

// Mid-prefill: 200 tokens take 4 steps of 64 rows; the one that runs is the last.
for (let turns = 0; turns < 6; turns++) {
  const controller = new AbortController();
  before = steps();
  const result = codeOf(engine.generate({ tokenIds: prompt, maxTokens: 1, signal: controller.signal }).result());
  while (steps() === before) await new Promise(setImmediate);
  for (let i = 0; i < turns; i++) await new Promise(setImmediate);
  const then = steps();
  const done = idle();
  controller.abort();
  const code = await result;
  if (code !== 'ERR_ABORTED' && !done) fail(`mid-prefill: ${code}`);
  await settled('mid-prefill', then, 0);
}

// Mid-decode, in the callback of a token.
const controller = new AbortController();
let then = 0;
const reading = async () => {
  let tokens = 0;
  for await (const part of engine.generate({
    tokenIds: prompt.slice(0, 20),
    ignoreEos: true,
    maxTokens: 200,
    signal: controller.signal,
  })) {
    tokens += part.type === 'text' ? part.tokenIds.length : 0;
    if (tokens < 5 || controller.signal.aborted) continue;
    then = steps();
    controller.abort();
  }
};
if ((await codeOf(reading())) !== 'ERR_ABORTED') fail('mid-decode: no error');
await settled('mid-decode', then, 0);

// After the end: nothing happens.
const late = new AbortController();
await engine.generate({ tokenIds: prompt, maxTokens: 2, signal: late.signal }).result();
before = steps();
late.abort();
await settled('after', before, 0);

// break, at every token.
for (let leaveAt = 1; leaveAt < 6; leaveAt++) {
  let parts = 0;
  for await (const _ of engine.generate({ tokenIds: prompt.slice(0, 30), maxTokens: 200, ignoreEos: true })) {
    if (++parts === leaveAt) break;
  }
  await settled(`break after ${leaveAt}`, steps(), 0);
}
await engine.dispose();
console.log('survived');
