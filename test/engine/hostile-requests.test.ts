// Requests that no honest client sends, and weights that poison some tokens: the request gets a coded error at once,
// and nothing of it reaches its neighbours.

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Engine } from '../../lib/engine/engine.ts';
import { SwiftKVError } from '../../lib/errors.ts';
import { writeTinyModel } from '../checkpoint/hostile-model.ts';
import { temporaryFolder } from '../reference/temp-dir.ts';

const folder = await temporaryFolder();
const where = { good: join(folder, 'good'), poisoned: join(folder, 'poisoned') };
const hiddenSize = 8;
/** Its row of the embedding is NaN; nothing else of the model is. */
const poison = 63;

let engine: Engine;
beforeAll(async () => {
  await writeTinyModel(where.good);
  await writeTinyModel(where.poisoned);
  await poisonEmbedding(join(where.poisoned, 'model.safetensors'));
  engine = await Engine.load(where.good, { kvCacheBytes: 2 ** 20, threads: 2 });
});
afterAll(() => engine.dispose());

async function poisonEmbedding(path: string): Promise<void> {
  const file = await readFile(path);
  const length = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + length));
  const [begin] = header['model.embed_tokens.weight'].data_offsets;
  for (let i = 0; i < hiddenSize; i++) file.writeUInt16LE(0x7fc0, 8 + length + begin + 2 * (poison * hiddenSize + i));
  await writeFile(path, file);
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'none';
  } catch (error) {
    expect(SwiftKVError.is(error), String(error)).toBe(true);
    return (error as SwiftKVError).code;
  }
}

/** Bytes beside the JavaScript heap that are there after a request and were not before. */
async function bytesOf(work: () => Promise<unknown>): Promise<number> {
  const before = process.memoryUsage().arrayBuffers;
  await work();
  return process.memoryUsage().arrayBuffers - before;
}

describe('a prompt longer than the context', () => {
  it('of 100 MB of text is refused before it is tokenized', async () => {
    const prompt = 'hello '.repeat(100_000_000 / 6);
    const bytes = await bytesOf(async () => {
      const work = engine.generate({ prompt, maxTokens: 1 }).result();
      await expect(work).rejects.toMatchObject({
        code: 'ERR_CONTEXT_LENGTH',
        message: expect.stringMatching(/Expected at most 256 tokens .* received a prompt of at least \d+/),
      });
    });
    expect(bytes).toBeLessThan(2 ** 20);
  });

  it('of 100 MB in a message is refused before the template runs', async () => {
    const content = 'hello '.repeat(100_000_000 / 6);
    const work = engine.generate({ messages: [{ role: 'user', content }], maxTokens: 1 }).result();
    expect(await codeOf(work)).toBe('ERR_CONTEXT_LENGTH');
  });

  it('of 10 million ids is refused before they are copied', async () => {
    const tokenIds = new Int32Array(10_000_000).fill(2);
    const bytes = await bytesOf(async () => {
      expect(await codeOf(engine.generate({ tokenIds, maxTokens: 1 }).result())).toBe('ERR_CONTEXT_LENGTH');
    });
    expect(bytes).toBeLessThan(2 ** 20);
  });

  it('of one token too many is refused, of one less is not', async () => {
    expect(await codeOf(engine.generate({ tokenIds: Array(256).fill(2), maxTokens: 1 }).result())).toBe(
      'ERR_CONTEXT_LENGTH',
    );
    expect(await codeOf(engine.generate({ tokenIds: Array(255).fill(2), maxTokens: 1 }).result())).toBe('none');
  });
});

describe('text that is none', () => {
  it.each(['\ud800', 'a\udfff', '\udc00\ud800', 'he\ud83dllo'])(
    'lone surrogates %j are tokenized as U+FFFD',
    async (prompt) => {
      const ids = await engine.tokenize(prompt);
      expect(ids).toEqual(await engine.tokenize(prompt.toWellFormed()));
      expect(['none', 'ERR_INVALID_ARGUMENT']).toContain(
        await codeOf(engine.generate({ prompt, maxTokens: 1 }).result()),
      );
    },
  );

  it('an empty prompt is refused by name', async () => {
    await expect(engine.generate({ prompt: '', maxTokens: 1 }).result()).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringContaining('prompt'),
    });
  });

  it.each([64, -1, 2 ** 31, 2 ** 53, Number.NaN, 1.5, '2', null, undefined, {}])(
    'the token id %o is refused by its place',
    async (id) => {
      const work = engine.generate({ tokenIds: [2, id] as number[], maxTokens: 1 }).result();
      await expect(work).rejects.toMatchObject({
        code: 'ERR_INVALID_ARGUMENT',
        message: expect.stringContaining('Expected tokenIds[1] to be an integer from 0 to 63'),
      });
    },
  );
});

describe('messages', () => {
  const cyclic: Record<string, unknown> = { role: 'user', content: 'a' };
  cyclic['self'] = cyclic;
  it.each<[string, unknown, RegExp]>([
    ['a function', { role: 'user', content: 'a', f: () => 1 }, /messages\[0\]\.f .*received a function/],
    ['a cycle', cyclic, /levels or a cycle/],
    ['a bigint', { role: 'user', content: 'a', n: 1n }, /messages\[0\]\.n .*received a bigint/],
    ['NaN', { role: 'user', content: 'a', n: [Number.NaN] }, /messages\[0\]\.n\[0\]/],
    ['a Map', { role: 'user', content: 'a', m: new Map() }, /an instance of Map/],
    ['no content and no tool calls', { role: 'user', content: null }, /messages\[0\]\.content/],
  ])('with %s are refused by the field', async (_, message, expected) => {
    const work = engine.generate({ messages: [message] as never, maxTokens: 1 }).result();
    await expect(work).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(expected),
    });
  });
});

describe('options', () => {
  const absurd: unknown[] = [
    null,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    -1,
    -0,
    0,
    0.5,
    1e308,
    5e-324,
    2 ** 31,
    2 ** 53,
    2n ** 64n,
    -1n,
    '',
    'x',
    '\ud800',
    'x'.repeat(1_000_000),
    true,
    [],
    [null],
    [Number.NaN],
    [-1],
    [1e9],
    [''],
    {},
    { a: Number.NaN },
    { 5: Number.POSITIVE_INFINITY },
    { 1e9: 1 },
    Object.create(null),
    new Map([[1e9, Number.NaN]]),
    new Float64Array([Number.NaN]),
    Symbol('s'),
    () => 1,
    new Date(Number.NaN),
  ];

  it('of every name, with every absurd value: refused by name, or harmless', { timeout: 60_000 }, async () => {
    const refusal = await engine
      .generate({ tokenIds: [2], nothing: 1 } as never)
      .result()
      .catch((error) => error);
    const names = /among (.*) but received/.exec(refusal.message)![1]!.split(', ');
    expect(names.length).toBeGreaterThan(8);
    for (const name of names) {
      for (const value of absurd) {
        const other = ['prompt', 'messages', 'tokenIds'].includes(name) ? {} : { tokenIds: [2, 3] };
        const options = { ...other, maxTokens: 2, [name]: value };
        const error: unknown = await engine
          .generate(options as never)
          .result()
          .catch((reason) => reason);
        if (!(error instanceof Error)) continue;
        expect(error, `${name} = ${inspect(value).slice(0, 40)}`).toMatchObject({
          code: expect.stringMatching(/^ERR_(INVALID_ARGUMENT|CONTEXT_LENGTH|CACHE_TOO_SMALL)$/),
        });
        expect(error.message.length).toBeLessThan(1000);
      }
    }
    const { tokenIds } = await engine.generate({ tokenIds: [2, 3], maxTokens: 3, ignoreEos: true }).result();
    expect(tokenIds.length).toBe(3);
  });

  it('of Engine.load, with every absurd value: refused before anything is read', async () => {
    const refusal = await Engine.load(where.good, { nothing: 1 } as never).catch((error) => error);
    const names = /among (.*) but received/.exec(refusal.message)![1]!.split(', ');
    for (const name of names) {
      for (const value of absurd) {
        const error: unknown = await Engine.load(join(folder, 'nowhere'), { [name]: value }).catch((reason) => reason);
        // The folder does not exist: a value that is acceptable gets that far and no further.
        expect(error, `${name} = ${inspect(value).slice(0, 40)}`).toMatchObject({
          code: expect.stringMatching(/^ERR_(INVALID_ARGUMENT|MODEL_NOT_FOUND)$/),
        });
      }
    }
  });
});

describe('weights that are NaN for one token', () => {
  const request = (seed: number, first: number) => ({
    tokenIds: [first, 3 + (seed % 20), 7, 9, 11],
    maxTokens: 40,
    temperature: 1,
    seed,
    ignoreEos: true,
    logprobs: 20,
  });

  /** Tokens, and log-probabilities to the bit; or the code of the error. */
  const answerOf = (engine: Engine, seed: number) =>
    engine
      .generate(request(seed, 2))
      .result()
      .then(
        ({ tokenIds, logprobs }) => ({ tokenIds, logprobs }),
        (error: SwiftKVError) => error.code,
      );

  it('fail the requests that hold it, while their neighbours have the bits they have alone', async () => {
    const poisoned = await Engine.load(where.poisoned, { kvCacheBytes: 2 ** 17, threads: 2 });
    try {
      const alone: Awaited<ReturnType<typeof answerOf>>[] = [];
      for (let seed = 0; seed < 12; seed++) alone.push(await answerOf(poisoned, seed));
      const good = alone.filter((answer) => typeof answer !== 'string').length;
      expect(good, 'neighbours that never draw the poisoned token').toBeGreaterThan(2);

      for (let round = 0; round < 3; round++) {
        const bad = Array.from({ length: 6 }, (_, i) => codeOf(poisoned.generate(request(100 + i, poison)).result()));
        const together = Array.from({ length: 12 }, (_, seed) => answerOf(poisoned, seed));
        expect(await Promise.all(together)).toEqual(alone);
        expect(new Set(await Promise.all(bad))).toEqual(new Set(['ERR_NUMERIC']));
      }
    } finally {
      await poisoned.dispose();
    }
  });

  it('fail prompt scores too, and say which request', async () => {
    const poisoned = await Engine.load(where.poisoned, { kvCacheBytes: 2 ** 17, threads: 1 });
    await expect(poisoned.logits([2, poison, 3])).rejects.toMatchObject({ code: 'ERR_NUMERIC' });
    expect((await poisoned.logits([2, 3])).rows).toBe(2);
    await poisoned.dispose();
  });
});
