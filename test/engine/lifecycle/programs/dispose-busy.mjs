// dispose at any moment, twice, at once, with work of every kind in flight: coded rejections, memory gone, neighbours well.

import { codeOf, fail, load, prompt } from './engine.mjs';

const neighbour = await load({ threads: 1 });
const question = { tokenIds: prompt.slice(0, 50), maxTokens: 6, temperature: 0, ignoreEos: true };
const expected = String((await neighbour.generate(question).result()).tokenIds);
for (let turns = 0; turns < 15; turns++) {
  const engine = await load();
  const work = [
    engine.generate({ tokenIds: prompt, maxTokens: 50, ignoreEos: true }).result(),
    engine.generate({ prompt: 'Once upon a time', maxTokens: 50, ignoreEos: true }).result(),
    engine.generate({ messages: [{ role: 'user', content: 'Hi' }], maxTokens: 50, ignoreEos: true }).result(),
    engine.logits(prompt),
    engine.tokenize('word '.repeat(5000)),
  ].map(codeOf);
  const beside = neighbour.generate(question).result();
  for (let i = 0; i < turns * 3; i++) await new Promise(setImmediate);
  const first = engine.dispose();
  await Promise.all([first, engine.dispose(), engine[Symbol.asyncDispose]()]);
  if (engine.memory().engine.total !== 0) fail(`after ${turns} turns: ${JSON.stringify(engine.memory())}`);
  for (const code of await Promise.all(work)) {
    if (code !== 'ERR_DISPOSED' && code !== 'resolved') fail(`after ${turns} turns: ${code}`);
  }
  if (String((await beside).tokenIds) !== expected) fail(`after ${turns} turns the neighbour answers otherwise`);
  if ((await codeOf(engine.generate(question).result())) !== 'ERR_DISPOSED') fail('a disposed engine answers');
}
await neighbour.dispose();
if (neighbour.memory().environment.total !== 0) fail(JSON.stringify(neighbour.memory()));
console.log('survived');
