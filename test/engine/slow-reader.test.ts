// Readers that are slower than the engine: what waits for them is bounded, their request pauses, and nobody else notices.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Engine } from '../../lib/engine/engine.ts';
import type { GenerateOptions, GeneratePart } from '../../lib/engine/types.ts';
import { greedy } from '../../lib/sampling/options.ts';
import type { Tokenizer } from '../../lib/tokenizer/tokenizer.ts';
import { fakeAnswer } from './fake-model.ts';
import { byteTokenizer, fakeEngine, prompt, turn, until } from './harness.ts';

const vocabSize = 97;

function answer(tokenIds: number[], maxTokens: number, choice = 0, temperature = 0): number[] {
  return fakeAnswer(tokenIds, { maxTokens, vocabSize, sampler: { ...greedy, temperature, seed: 5n, choice } });
}

/** Waits until the engine has done what it can without a reader. */
async function settle({ runner }: Pick<ReturnType<typeof fakeEngine>, 'runner'>): Promise<void> {
  for (let steps = -1; steps !== runner.steps || runner.busy; ) {
    steps = runner.steps;
    for (let i = 0; i < 4; i++) await turn();
  }
}

type Reader = AsyncIterator<GeneratePart, undefined, undefined>;

async function rest(reader: Reader): Promise<GeneratePart[]> {
  const parts: GeneratePart[] = [];
  for (let next = await reader.next(); !next.done; next = await reader.next()) parts.push(next.value);
  return parts;
}

const idsOf = (parts: GeneratePart[], index = 0) =>
  parts.flatMap((part) => (part.type === 'text' && part.index === index ? part.tokenIds : []));

const textOf = (parts: GeneratePart[]) => parts.map((part) => (part.type === 'text' ? part.text : '')).join('');

/** A stream of which one part has been read, and whose request has paused since. */
async function pausedStream({ engine, runner }: ReturnType<typeof fakeEngine>, options: GenerateOptions) {
  const reader = engine.generate({ maxBufferedTokens: 4, ...options })[Symbol.asyncIterator]();
  const { value } = await reader.next();
  await until(() => engine.info().load.paused > 0);
  await settle({ runner });
  return { reader, first: value! };
}

const load = (engine: Engine) => {
  const { running, waiting, paused, freeBlocks } = engine.info().load;
  return { running, waiting, paused, freeBlocks };
};
const nothing = { running: 0, waiting: 0, paused: 0, freeBlocks: 64 };

describe('what waits for a reader', () => {
  for (const bound of [1, 2, 7, 30]) {
    it.each([1, 3])(`is at most ${bound} tokens and the one on its way, of each of %i answers`, async (n) => {
      const { engine, runner } = fakeEngine();
      const tokenIds = prompt(20);
      const request = { tokenIds, maxTokens: 60, n, temperature: 1, seed: 5, logprobs: 1 };
      const whole = await engine.generate(request).results();
      const reader = engine.generate({ ...request, maxBufferedTokens: bound })[Symbol.asyncIterator]();
      const parts: GeneratePart[] = [];
      let largest = 0;
      for (;;) {
        const next = await reader.next();
        if (next.done) break;
        if (next.value.type === 'text') largest = Math.max(largest, next.value.tokenIds.length);
        parts.push(next.value);
        await settle({ runner });
      }
      expect(largest).toBe(bound + 1);
      for (const [i, { tokenIds, logprobs }] of whole.entries()) {
        expect(idsOf(parts, i)).toEqual(tokenIds);
        expect(parts.flatMap((p) => (p.type === 'text' && p.index === i ? p.logprobs! : []))).toEqual(logprobs);
      }
      await engine.dispose();
    });
  }

  it('is 1024 tokens when the request does not say', async () => {
    const fake = fakeEngine({ maxModelLen: 2048, numBlocks: 128 });
    const reader = fake.engine.generate({ tokenIds: prompt(5), maxTokens: 2000 })[Symbol.asyncIterator]();
    await reader.next();
    await settle(fake);
    expect(fake.engine.info().load).toMatchObject({ running: 1, paused: 1 });
    expect((await reader.next()).value).toMatchObject({ tokenIds: { length: 1025 } });
    await fake.engine.dispose();
  });

  it('is not bounded where the whole is asked for', async () => {
    const { engine } = fakeEngine();
    const { tokenIds } = await engine.generate({ tokenIds: prompt(5), maxTokens: 50, maxBufferedTokens: 1 }).result();
    expect(tokenIds).toEqual(answer(prompt(5), 50));
    await engine.dispose();
  });

  it('is handed over answer by answer in turn, so that none waits for another', async () => {
    const fake = fakeEngine();
    const request = { tokenIds: prompt(20), maxTokens: 100, n: 3, maxBufferedTokens: 5 };
    const { reader } = await pausedStream(fake, request);
    const indices: number[] = [];
    for (let i = 0; i < 9; i++) {
      const { value } = await reader.next();
      indices.push(value!.index);
      await settle(fake);
    }
    expect(indices.map((index) => (index - indices[0]! + 3) % 3)).toEqual([0, 1, 2, 0, 1, 2, 0, 1, 2]);
    await fake.engine.dispose();
  });
});

describe('a request whose reader is slow', () => {
  it('pauses, costs the others no step, and goes on where it was', async () => {
    const fake = fakeEngine();
    const { engine, runner } = fake;
    const alone = runner.steps;
    await engine.generate({ tokenIds: prompt(20, 1), maxTokens: 30 }).result();
    const stepsAlone = runner.steps - alone;
    const { reader, first } = await pausedStream(fake, { tokenIds: prompt(20), maxTokens: 40 });
    expect(engine.info().load).toMatchObject({ running: 1, paused: 1 });
    const before = runner.steps;
    const { tokenIds, usage } = await engine.generate({ tokenIds: prompt(20, 1), maxTokens: 30 }).result();
    expect(runner.steps - before).toBe(stepsAlone);
    expect(tokenIds).toEqual(answer(prompt(20, 1), 30));
    expect(usage.preemptions).toBe(0);
    const parts = [first, ...(await rest(reader))];
    expect(idsOf(parts)).toEqual(answer(prompt(20), 40));
    expect(parts.at(-1)).toMatchObject({ type: 'finish', usage: { preemptions: 0, completionTokens: 40 } });
    expect(load(engine)).toEqual(nothing);
    await engine.dispose();
  });

  it('loses its blocks and its place to others, and still gets the answer that it gets alone', async () => {
    const fake = fakeEngine({ numBlocks: 5, maxSeqs: 1 });
    const { engine } = fake;
    const { reader, first } = await pausedStream(fake, { tokenIds: prompt(20), maxTokens: 40 });
    const other = await engine.generate({ tokenIds: prompt(40, 1), maxTokens: 40 }).result();
    expect(other.tokenIds).toEqual(answer(prompt(40, 1), 40));
    expect(other.usage.preemptions).toBe(0);
    expect(load(engine)).toEqual({ running: 0, waiting: 1, paused: 1, freeBlocks: 5 });
    const parts = [first, ...(await rest(reader))];
    expect(idsOf(parts)).toEqual(answer(prompt(20), 40));
    expect(parts.at(-1)).toMatchObject({ usage: { preemptions: 1 } });
    await engine.dispose();
  });

  it('lets an engine rest in which all are paused', async () => {
    const fake = fakeEngine();
    const { engine, runner } = fake;
    await pausedStream(fake, { tokenIds: prompt(20), maxTokens: 100, n: 5 });
    await pausedStream(fake, { tokenIds: prompt(9), maxTokens: 100 });
    await until(() => engine.info().load.paused === 6);
    const { steps } = runner;
    for (let i = 0; i < 50; i++) await turn();
    expect(runner.steps).toBe(steps);
    expect(engine.info().load).toMatchObject({ running: 6, waiting: 0, paused: 6 });
    await engine.dispose();
  });

  it.each(['return', 'signal', 'dispose'] as const)('is over at once by %s, its blocks are free', async (way) => {
    for (const numBlocks of [64, 3]) {
      const fake = fakeEngine({ numBlocks, maxSeqs: 1 });
      const { engine, runner } = fake;
      const controller = new AbortController();
      const { signal } = controller;
      const { reader } = await pausedStream(fake, { tokenIds: prompt(20), maxTokens: 28, signal });
      // With three blocks it is paused in the queue: another has taken what it had.
      if (numBlocks === 3) await engine.generate({ tokenIds: prompt(40, 1), maxTokens: 2 }).result();
      const { steps } = runner;
      if (way === 'return') {
        await reader.return!();
        expect(await reader.next()).toEqual({ done: true, value: undefined });
      } else if (way === 'signal') {
        controller.abort();
        await expect(reader.next()).rejects.toMatchObject({ code: 'ERR_ABORTED' });
      } else {
        const disposed = engine.dispose();
        await expect(reader.next()).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
        await disposed;
      }
      expect(load(engine)).toEqual({ ...nothing, freeBlocks: numBlocks });
      await settle(fake);
      expect(runner.steps).toBe(steps);
      await engine.dispose();
    }
  });

  it('gets the error of the answer that comes while it waits', async () => {
    const tokenIds = prompt(20);
    const expected = answer(tokenIds, 40);
    const nanToken = expected.slice(12).find((id) => !tokenIds.includes(id) && expected.indexOf(id) >= 12)!;
    const fake = fakeEngine({ nanToken });
    const { reader } = await pausedStream(fake, { tokenIds, maxTokens: 40 });
    await expect(rest(reader)).rejects.toMatchObject({ code: 'ERR_NUMERIC' });
    await settle(fake);
    expect(load(fake.engine)).toEqual(nothing);
    await fake.engine.dispose();
  });

  it('ends with the error of a decoder that throws, streamed or not', async () => {
    const tokenizer = byteTokenizer();
    tokenizer.streamDecoder = () => ({
      push: (id) => {
        if (id % 8 === 7) throw new Error('no such token');
        return String(id);
      },
      end: () => '',
    });
    const fake = fakeEngine({ tokenizer, vocabSize: 256 });
    for (const stop of [[], ['never']]) {
      const request = { tokenIds: prompt(20), maxTokens: 200, stop };
      const before = fake.runner.steps;
      const reader = fake.engine.generate(request)[Symbol.asyncIterator]();
      await expect(rest(reader)).rejects.toThrow(/no such token/);
      expect(await reader.next()).toEqual({ done: true, value: undefined });
      await settle(fake);
      expect(fake.runner.steps - before).toBeLessThan(150);
      expect(load(fake.engine)).toEqual(nothing);
      await expect(fake.engine.generate(request).result()).rejects.toThrow(/no such token/);
      await fake.engine.generate({ tokenIds: prompt(5), maxTokens: 1, allowedTokenIds: [0] }).result();
    }
    await fake.engine.dispose();
  });

  it('can pause at its very last token', async () => {
    for (const maxTokens of [4, 5, 6, 7]) {
      const fake = fakeEngine();
      const reader = fake.engine
        .generate({ tokenIds: prompt(5), maxTokens, maxBufferedTokens: 4 })
        [Symbol.asyncIterator]();
      const first = (await reader.next()).value!;
      await settle(fake);
      expect(idsOf([first, ...(await rest(reader))])).toEqual(answer(prompt(5), maxTokens));
      expect(load(fake.engine)).toEqual(nothing);
      await fake.engine.dispose();
    }
  });
});

describe('text that says nothing for longer than the bound', () => {
  /** Every token but 'x' is special: no text. */
  const silent = (): Tokenizer => ({
    ...byteTokenizer(),
    streamDecoder: () => ({ push: (id) => (id === 120 ? 'x' : ''), end: () => '' }),
  });

  it('does not hold up the answer: its tokens come without text', async () => {
    const fake = fakeEngine({ tokenizer: silent(), vocabSize: 128 });
    const { engine } = fake;
    const request = { tokenIds: prompt(20), maxTokens: 40, logitBias: { 120: Number.NEGATIVE_INFINITY } };
    const { tokenIds } = await engine.generate(request).result();
    for (const more of [{ maxBufferedTokens: 1 }, { maxBufferedTokens: 7, stop: 'xx' }]) {
      const parts = await rest(engine.generate({ ...request, ...more })[Symbol.asyncIterator]());
      expect(idsOf(parts)).toEqual(tokenIds);
      expect(textOf(parts)).toBe('');
    }
    await engine.dispose();
  });

  it('is also text that may still become a stop string', async () => {
    const { engine, text } = textEngine();
    const held = 'abcdefghijklmnop';
    for (const [spoken, stop, left] of [
      [`${held}!`, `${held}?`, `${held}!`],
      [`1${held}?2`, `${held}?`, '1'],
    ] as const) {
      const parts = await rest(text(spoken, { stop, maxBufferedTokens: 2 })[Symbol.asyncIterator]());
      expect(textOf(parts)).toBe(left);
      expect(parts.at(-1)).toMatchObject({ type: 'finish', finishReason: left === '1' ? 'stop' : 'length' });
    }
    await engine.dispose();
  });
});

/** An engine that answers with a text, byte by byte: the mask of each token allows the next byte only. */
function textEngine() {
  const vocabSize = 256;
  const fake = fakeEngine({ vocabSize, tokenizer: byteTokenizer() });
  const text = (spoken: string, request: GenerateOptions) => {
    const bytes = new TextEncoder().encode(spoken);
    const tokenMask = (outputIds: Int32Array) => {
      const mask = new Uint32Array(vocabSize / 32);
      const byte = bytes[outputIds.length]!;
      mask[byte >>> 5] = 1 << (byte & 31);
      return mask;
    };
    return fake.engine.generate({ tokenIds: prompt(10), maxTokens: bytes.length, tokenMask, ...request });
  };
  return { ...fake, text };
}

describe('a stop string', () => {
  it('is found at the same place however slowly the text is read', async () => {
    const fake = textEngine();
    const spoken = 'préface 日本語 🙂🙃 fin';
    for (const bound of [1, 2, 3, 5, 8, 13]) {
      for (const stop of ['🙃', 'face', '語 ', 'fin']) {
        const reader = fake.text(spoken, { stop, maxBufferedTokens: bound })[Symbol.asyncIterator]();
        const parts: GeneratePart[] = [];
        for (let next = await reader.next(); !next.done; next = await reader.next()) {
          parts.push(next.value);
          await settle(fake);
        }
        expect(textOf(parts)).toBe(spoken.slice(0, spoken.indexOf(stop)));
        expect(parts.at(-1)).toMatchObject({ finishReason: 'stop', stopReason: stop });
      }
    }
    expect(load(fake.engine)).toEqual(nothing);
    await fake.engine.dispose();
  });
});

it('every stream ends with its answer, whoever reads how slowly, in whatever cache', async () => {
  const stream = fc.record({
    length: fc.integer({ min: 1, max: 40 }),
    maxTokens: fc.integer({ min: 1, max: 40 }),
    n: fc.integer({ min: 1, max: 3 }),
    bound: fc.integer({ min: 1, max: 12 }),
    priority: fc.integer({ min: 0, max: 1 }),
    /** Turns of the event loop before each read. */
    patience: fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1, maxLength: 5 }),
  });
  const setup = {
    streams: fc.array(stream, { minLength: 1, maxLength: 6 }),
    numBlocks: fc.integer({ min: 5, max: 14 }),
    maxSeqs: fc.integer({ min: 1, max: 5 }),
    prefixCaching: fc.boolean(),
  };
  let preemptions = 0;
  await fc.assert(
    fc.asyncProperty(fc.record(setup), async ({ streams, ...options }) => {
      const { engine, runner } = fakeEngine(options);
      await Promise.all(
        streams.map(async ({ length, maxTokens, n, bound, priority, patience }) => {
          const tokenIds = prompt(length, length % 3);
          const request = { tokenIds, maxTokens, n, priority, maxBufferedTokens: bound, temperature: 1, seed: 5 };
          const reader = engine.generate(request)[Symbol.asyncIterator]();
          const parts: GeneratePart[] = [];
          for (let i = 0; ; i++) {
            for (let k = patience[i % patience.length]!; k > 0; k--) await turn();
            const next = await reader.next();
            if (next.done) break;
            if (next.value.type === 'text') expect(next.value.tokenIds.length).toBeLessThanOrEqual(bound + 1);
            parts.push(next.value);
          }
          for (let choice = 0; choice < n; choice++) {
            expect(idsOf(parts, choice)).toEqual(answer(tokenIds, maxTokens, choice, 1));
          }
          expect(parts.filter((part) => part.type === 'finish')).toHaveLength(n);
        }),
      );
      await until(() => !runner.busy);
      expect(load(engine)).toEqual({ ...nothing, freeBlocks: options.numBlocks });
      preemptions += engine.info().load.preemptions;
      await engine.dispose();
    }),
    { numRuns: 40 },
  );
  expect(preemptions).toBeGreaterThan(20);
});
