// engine.memory(): what is counted natively is what was planned, and nothing of it is left after dispose.

import { expect, test } from 'vitest';
import { Engine } from '../../../lib/engine/engine.ts';
import { inlineEncodeLength } from '../../../lib/tokenizer/load.ts';

const small = { threads: 1, maxModelLen: 64, kvCacheBytes: 2 ** 20, maxBatchRows: 32, maxSequences: 2 };
const parts = ['weights', 'kvPool', 'ropeTable', 'workspace', 'samplers', 'batches', 'tensors', 'scratch'] as const;

test('the counters say what the plan said, part by part', async () => {
  const engine = await Engine.load('embedded:swiftkv-50', small);
  const { bytes, maxSeqs } = engine.info();
  const { engine: own, environment, tokenizerWorkers } = engine.memory();
  // Matrices in panels are padded to whole panels; the plan counts them so.
  expect(own).toMatchObject({
    weights: bytes.weights,
    kvPool: bytes.kvPool,
    ropeTable: bytes.ropeTable,
    workspace: bytes.workspace,
    tensors: 0,
  });
  expect(own.samplers).toBeGreaterThanOrEqual(maxSeqs * 32);
  expect(own.batches).toBeGreaterThan(0);
  expect(own.total).toBe(parts.reduce((sum, part) => sum + own[part], 0));
  expect(environment).toEqual(own);
  expect(tokenizerWorkers).toBe(0);
  await engine.dispose();
});

test('after dispose every part is 0, batches too, though JavaScript still holds their arrays', async () => {
  const engine = await Engine.load('embedded:swiftkv-50', small);
  await engine.generate({ prompt: 'Once', maxTokens: 3 }).result();
  await engine.logits([1, 2, 3]);
  await engine.dispose();
  const { engine: own, environment } = engine.memory();
  for (const part of [...parts, 'total'] as const) expect([part, own[part], environment[part]]).toEqual([part, 0, 0]);
});

test('the environment is the sum of its engines, and loses the part of the one that goes', async () => {
  const [a, b] = await Promise.all([
    Engine.load('embedded:base', small),
    Engine.load('embedded:swiftkv-50', { ...small, kvCacheBytes: 2 ** 19 }),
  ]);
  const ofB = b.memory().engine.total;
  expect(a.memory().environment.total).toBe(a.memory().engine.total + ofB);
  await a.dispose();
  expect(b.memory().environment.total).toBe(ofB);
  expect((await b.generate({ prompt: 'Once', maxTokens: 3 }).result()).tokenIds).toHaveLength(3);
  await b.dispose();
  expect(b.memory().environment.total).toBe(0);
});

test('plain requests take no native memory: what is held does not change while they run', async () => {
  const engine = await Engine.load('embedded:swiftkv-50', small);
  const before = engine.memory().engine;
  const results = [1, 2, 3, 4].map((i) => engine.generate({ tokenIds: [i, i, i], maxTokens: 8 }).result());
  let during = before;
  for await (const part of engine.generate({ tokenIds: [5], maxTokens: 4 })) {
    if (part.type === 'text') during = engine.memory().engine;
  }
  await Promise.all(results);
  expect([during, engine.memory().engine]).toEqual([before, before]);
  await engine.dispose();
});

test('the workers of the tokenizer are reported while they are there', async () => {
  const engine = await Engine.load('embedded:base', small);
  await engine.tokenize('word '.repeat(inlineEncodeLength / 4));
  expect(engine.memory().tokenizerWorkers).toBe(1);
  await engine.generate({ messages: [{ role: 'user', content: 'Hi' }], maxTokens: 1 }).result();
  expect(engine.memory().tokenizerWorkers).toBe(2);
  await engine.dispose();
  expect(engine.memory().tokenizerWorkers).toBe(0);
});
