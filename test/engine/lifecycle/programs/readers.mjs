// Readers that never come, come late, or go: others are not held up, and what waits is token ids, not parts.

import { codeOf, fail, load, prompt } from './engine.mjs';

const engine = await load();
const request = { tokenIds: prompt.slice(0, 20), maxTokens: 100, temperature: 0, ignoreEos: true };

// Not consumed: nothing runs.
for (let i = 0; i < 100; i++) engine.generate(request);
await new Promise(setImmediate);
if (engine.info().load.steps !== 0) fail('an unconsumed generation ran');

// A slow reader: the engine finishes its answer and others' while it sleeps.
const slow = engine.generate(request)[Symbol.asyncIterator]();
const first = (await slow.next()).value;
const fast = await engine.generate(request).result();
while (engine.info().load.running > 0) await new Promise(setImmediate);
if (engine.info().load.freeBlocks !== engine.info().numBlocks) fail('a slow reader holds blocks');
const parts = [first];
for (let next = await slow.next(); !next.done; next = await slow.next()) parts.push(next.value);
const ids = parts.flatMap((part) => (part.type === 'text' ? part.tokenIds : []));
if (String(ids) !== String(fast.tokenIds)) fail('a slow reader gets other tokens');
if (parts.length > 4) fail(`what waited for the slow reader came in ${parts.length} parts`);

// Streams that were begun and never read again: bounded memory, all freed when the engine goes.
const left = [];
for (let i = 0; i < 50; i++) {
  const iterator = engine.generate({ ...request, maxTokens: 20 })[Symbol.asyncIterator]();
  left.push(iterator.next());
}
await Promise.all(left);
while (engine.info().load.running + engine.info().load.waiting > 0) await new Promise(setImmediate);
if (engine.info().load.freeBlocks !== engine.info().numBlocks) fail('streams that nobody reads hold blocks');

// A next that waits while its stream is left, and a second reader.
const iterator = engine.generate(request)[Symbol.asyncIterator]();
const [waiting] = [iterator.next(), iterator.return()];
if (!(await waiting).done && (await iterator.next()).done !== true) fail('a stream goes on after return');
const twice = engine.generate({ ...request, maxTokens: 1 });
await twice.result();
if ((await codeOf(twice.result())) !== 'ERR_INVALID_ARGUMENT') fail('a generation was consumed twice');
await engine.dispose();
console.log('survived');
