// Draining: what an engine has ends, nothing new begins, and one that waits for a drain always hears how it went.

import { afterEach, describe, expect, it, vi } from 'vitest';
import { fakeAnswer } from './fake-model.ts';
import { byteTokenizer, fakeEngine, prompt, turn, until } from './harness.ts';

const vocabSize = 97;
const draining = { code: 'ERR_DRAINING' };

afterEach(() => {
  vi.useRealTimers();
});

/** Whether a promise is settled, known after a turn of the event loop. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const note = () => {
    settled = true;
  };
  promise.then(note, note);
  await turn();
  return settled;
}

describe('drain', () => {
  it('has nothing to wait for in an idle engine', async () => {
    const { engine } = fakeEngine();
    await engine.generate({ tokenIds: prompt(5), maxTokens: 1 }).result();
    const unconsumed = engine.generate({ tokenIds: prompt(5), maxTokens: 1 });
    expect(await engine.drain()).toEqual({ finished: 0, aborted: 0 });
    await expect(unconsumed.result()).rejects.toMatchObject(draining);
    await engine.dispose();
  });

  it('waits for what runs, what waits and what is being tokenized, and for no reader', async () => {
    let tokenized = () => {};
    const encode = () =>
      new Promise<Int32Array>((resolve) => {
        tokenized = () => resolve(Int32Array.from(prompt(12)));
      });
    const { engine } = fakeEngine({ tokenizer: { ...byteTokenizer(), encode }, vocabSize: 256, maxSeqs: 2 });
    const results = Array.from({ length: 5 }, (_, i) =>
      engine.generate({ tokenIds: prompt(10, i), maxTokens: 10 }).result(),
    );
    const several = engine.generate({ tokenIds: prompt(10, 9), maxTokens: 10, n: 3 }).results();
    const scored = engine.logits(prompt(20));
    const late = engine.generate({ prompt: 'x', maxTokens: 3 }).result();
    // Its answer fits the buffer, so it ends although nobody reads on.
    const unread = engine.generate({ tokenIds: prompt(10, 7), maxTokens: 10 })[Symbol.asyncIterator]();
    const first = unread.next();
    const drained = engine.drain();
    expect((await first).done).toBe(false);
    await Promise.all([...results, several, scored]);
    await until(() => engine.info().load.running === 0);
    expect(await isSettled(drained)).toBe(false);
    tokenized();
    expect(await drained).toEqual({ finished: 9, aborted: 0 });
    expect((await late).tokenIds).toEqual(fakeAnswer(prompt(12), { maxTokens: 3, vocabSize: 256 }));
    const kinds: string[] = [];
    for (let next = await unread.next(); !next.done; next = await unread.next()) kinds.push(next.value.type);
    expect(kinds).toEqual(['text', 'finish']);
    await engine.dispose();
  });

  it('takes no new requests from the moment of the call, and still tokenizes', async () => {
    const { engine } = fakeEngine({ tokenizer: byteTokenizer(), vocabSize: 256 });
    const result = engine.generate({ prompt: 'abc', maxTokens: 5 }).result();
    const drained = engine.drain();
    const request = { tokenIds: prompt(5), maxTokens: 1 };
    await expect(engine.generate(request).result()).rejects.toMatchObject(draining);
    await expect(engine.generate(request).results()).rejects.toMatchObject(draining);
    await expect(engine.generate(request)[Symbol.asyncIterator]().next()).rejects.toMatchObject(draining);
    await expect(engine.logits(prompt(5))).rejects.toMatchObject(draining);
    expect(await engine.tokenize('abc')).toEqual([97, 98, 99]);
    expect(await engine.detokenize([97, 98])).toBe('ab');
    expect(engine.info().load.running).toBe(1);
    expect((await result).tokenIds).toHaveLength(5);
    expect(await drained).toEqual({ finished: 1, aborted: 0 });
    // Also afterwards.
    await expect(engine.generate(request).result()).rejects.toMatchObject(draining);
    await engine.dispose();
    await expect(engine.generate(request).result()).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
  });

  it('counts those that fail or are left by their readers as ended by themselves', async () => {
    const { engine } = fakeEngine({ nanToken: 96 });
    const failing = engine.generate({ tokenIds: [...prompt(5), 96], maxTokens: 5 }).result();
    const failed = expect(failing).rejects.toMatchObject({ code: 'ERR_NUMERIC' });
    const controller = new AbortController();
    const aborted = engine.generate({ tokenIds: prompt(5), maxTokens: 50, signal: controller.signal }).result();
    const left = engine.generate({ tokenIds: prompt(6), maxTokens: 50 })[Symbol.asyncIterator]();
    const first = left.next();
    const drained = engine.drain();
    controller.abort();
    await expect(aborted).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    await first;
    await left.return!();
    await failed;
    expect(await drained).toEqual({ finished: 3, aborted: 0 });
    await engine.dispose();
  });
});

describe('the timeout of drain', () => {
  it('aborts what is left: a paused stream, one that waits, one that is tokenized', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const encode = () => new Promise<Int32Array>(() => {});
    const { engine, runner } = fakeEngine({ tokenizer: { ...byteTokenizer(), encode }, vocabSize: 256, manual: true });
    const serve = () => {
      if (runner.busy) runner.release();
    };
    const request = { tokenIds: prompt(10), maxTokens: 90, maxBufferedTokens: 3 };
    const paused = engine.generate(request)[Symbol.asyncIterator]();
    const first = paused.next();
    await until(() => {
      serve();
      return engine.info().load.paused === 1;
    });
    await first;
    const quick = engine.generate({ ...request, maxTokens: 4 }).result();
    const long = engine.generate({ ...request, maxTokens: 90, n: 12 }).results();
    const tokenizing = engine.generate({ prompt: 'x' }).result();
    const message = { code: 'ERR_ABORTED', message: expect.stringMatching(/drained .* after 1000 ms/) };
    const failures = [long, tokenizing].map((promise) => expect(promise).rejects.toMatchObject(message));
    const drained = engine.drain({ timeoutMs: 1000 });
    let done = false;
    quick.then(() => {
      done = true;
    });
    await until(() => {
      serve();
      return done;
    });
    vi.advanceTimersByTime(999);
    expect(await isSettled(drained)).toBe(false);
    vi.advanceTimersByTime(1);
    expect(await drained).toEqual({ finished: 1, aborted: 3 });
    await Promise.all(failures);
    await expect(paused.next()).rejects.toMatchObject(message);
    await until(() => !runner.busy);
    expect(engine.info().load).toMatchObject({ running: 0, waiting: 0, paused: 0, freeBlocks: 64 });
    expect(vi.getTimerCount()).toBe(0);
    await engine.dispose();
  });

  it('is forgotten when all have ended before it', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const { engine } = fakeEngine();
    const result = engine.generate({ tokenIds: prompt(10), maxTokens: 3 }).result();
    expect(await engine.drain({ timeoutMs: 1000 })).toEqual({ finished: 1, aborted: 0 });
    expect(vi.getTimerCount()).toBe(0);
    expect((await result).tokenIds).toHaveLength(3);
    await engine.dispose();
  });

  it('may be 0: then everything is aborted at once', async () => {
    const { engine } = fakeEngine();
    const result = engine.generate({ tokenIds: prompt(10), maxTokens: 300 }).result();
    const failed = expect(result).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    expect(await engine.drain({ timeoutMs: 0 })).toEqual({ finished: 0, aborted: 1 });
    await failed;
    await engine.dispose();
  });

  it.each([[-1], ['1'], [Number.NaN], [Number.POSITIVE_INFINITY]])(
    'is refused when it is %o, and nothing is drained',
    async (timeoutMs) => {
      const { engine } = fakeEngine();
      await expect(engine.drain({ timeoutMs } as never)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
      await expect(engine.drain({ timeout: 5 } as never)).rejects.toThrow(/timeout/);
      expect((await engine.generate({ tokenIds: prompt(3), maxTokens: 1 }).result()).tokenIds).toHaveLength(1);
      await engine.dispose();
    },
  );
});

describe('a second drain', () => {
  it('waits for the same requests and hears the same', async () => {
    const { engine } = fakeEngine();
    const result = engine.generate({ tokenIds: prompt(10), maxTokens: 3 }).result();
    const both = [engine.drain(), engine.drain()];
    expect(await Promise.all(both)).toEqual([
      { finished: 1, aborted: 0 },
      { finished: 1, aborted: 0 },
    ]);
    expect(await engine.drain()).toEqual({ finished: 1, aborted: 0 });
    await result;
    await engine.dispose();
  });

  it('may bring the timeout that the first one did not have', async () => {
    const { engine, runner } = fakeEngine();
    const stream = engine
      .generate({ tokenIds: prompt(10), maxTokens: 90, maxBufferedTokens: 3 })
      [Symbol.asyncIterator]();
    await stream.next();
    const patient = engine.drain();
    await until(() => engine.info().load.paused === 1 && !runner.busy);
    expect(await isSettled(patient)).toBe(false);
    expect(await engine.drain({ timeoutMs: 1 })).toEqual({ finished: 0, aborted: 1 });
    expect(await patient).toEqual({ finished: 0, aborted: 1 });
    await engine.dispose();
  });
});

describe('dispose', () => {
  it('ends a drain: what it had to abort is counted', async () => {
    const { engine, runner } = fakeEngine({ manual: true });
    const result = engine.generate({ tokenIds: prompt(10), maxTokens: 30 }).result();
    const failed = expect(result).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    const scored = expect(engine.logits(prompt(9))).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    const drained = engine.drain({ timeoutMs: 100_000 });
    await until(() => runner.busy);
    const disposed = engine.dispose();
    expect(await drained).toEqual({ finished: 0, aborted: 2 });
    await Promise.all([failed, scored, disposed]);
    expect(runner.disposals).toBe(1);
  });

  it('before a drain leaves nothing to wait for', async () => {
    const { engine } = fakeEngine();
    const result = engine.generate({ tokenIds: prompt(10), maxTokens: 30 }).result();
    const failed = expect(result).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    const disposed = engine.dispose();
    expect(await engine.drain()).toEqual({ finished: 0, aborted: 0 });
    await Promise.all([failed, disposed]);
  });

  it('during a drain from within a step counts an answer that is complete as finished', async () => {
    const { engine } = fakeEngine();
    const short = engine.generate({ tokenIds: prompt(10), maxTokens: 2 }).result();
    // Called while the third step is made, before anybody has been told of the second.
    const tokenMask = (outputIds: Int32Array) => {
      if (outputIds.length === 2) void engine.dispose();
      return null;
    };
    const long = engine.generate({ tokenIds: prompt(11), maxTokens: 30, tokenMask }).result();
    const failed = expect(long).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    expect(await engine.drain()).toEqual({ finished: 1, aborted: 1 });
    expect((await short).tokenIds).toEqual(fakeAnswer(prompt(10), { maxTokens: 2, vocabSize }));
    await failed;
    await engine.dispose();
  });
});
