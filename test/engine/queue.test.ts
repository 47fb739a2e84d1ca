// The queue: how long it may get, how long one may wait in it, and who overtakes whom.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { GenerateOptions } from '../../lib/engine/types.ts';
import { fakeAnswer } from './fake-model.ts';
import { fakeEngine, prompt, turn, until } from './harness.ts';

const vocabSize = 97;
const full = { code: 'ERR_QUEUE_FULL' };
const late = { code: 'ERR_QUEUE_TIMEOUT' };

type Options = Parameters<typeof fakeEngine>[0];

/** An engine of one place whose steps end when the test says so. */
function narrowEngine(options: Options = {}) {
  const { engine, runner } = fakeEngine({ maxSeqs: 1, manual: true, ...options });
  const ask = (salt: number, more: GenerateOptions = {}) =>
    engine.generate({ tokenIds: prompt(10, salt), maxTokens: 2, ...more }).result();
  /** Steps until `promise` is settled. */
  const serve = async <T>(promise: Promise<T>): Promise<T> => {
    let settled = false;
    const done = () => {
      settled = true;
    };
    promise.then(done, done);
    await until(() => {
      if (runner.busy && !settled) runner.release();
      return settled;
    });
    return promise;
  };
  return { engine, runner, ask, serve };
}

const expected = (salt: number) => fakeAnswer(prompt(10, salt), { maxTokens: 2, vocabSize });

describe('a full queue', () => {
  it('refuses the next one, says so at once, harms nobody, and takes requests again when there is room', async () => {
    const { engine, runner, ask, serve } = narrowEngine({ maxQueued: 2 });
    const first = ask(0);
    await until(() => runner.busy);
    const waiting = [ask(1), ask(2)];
    await turn();
    await expect(ask(3)).rejects.toMatchObject({ ...full, message: expect.stringMatching(/at most 2 .*maxQueued/) });
    await expect(
      engine
        .generate({ tokenIds: prompt(4) })
        [Symbol.asyncIterator]()
        .next(),
    ).rejects.toMatchObject(full);
    await expect(engine.logits(prompt(4))).rejects.toMatchObject(full);
    expect(engine.info().load).toMatchObject({ running: 1, waiting: 2 });
    await serve(first);
    await until(() => engine.info().load.waiting === 1);
    const again = ask(4);
    await expect(ask(5)).rejects.toMatchObject(full);
    const answers = await serve(Promise.all([first, ...waiting, again]));
    expect(answers.map(({ tokenIds }) => tokenIds)).toEqual([0, 1, 2, 4].map(expected));
    await engine.dispose();
  });

  it('is not full any more when one that waits is aborted', async () => {
    const { engine, runner, ask, serve } = narrowEngine({ maxQueued: 1 });
    const controller = new AbortController();
    const first = ask(0);
    await until(() => runner.busy);
    const waiting = ask(1, { signal: controller.signal });
    await expect(ask(2)).rejects.toMatchObject(full);
    controller.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    const third = ask(3);
    await serve(first);
    expect((await serve(third)).tokenIds).toEqual(expected(3));
    await engine.dispose();
  });

  it('has room beside it for what can start at once, and counts the answers to one prompt once', async () => {
    const { engine } = fakeEngine({ maxSeqs: 3, maxQueued: 2 });
    const ask = (n = 1) => engine.generate({ tokenIds: prompt(10), maxTokens: 2, n }).results();
    const taken = [ask(), ask(9), ask(), ask(2), ask()];
    await expect(ask()).rejects.toMatchObject(full);
    expect((await Promise.all(taken)).map((results) => results.length)).toEqual([1, 9, 1, 2, 1]);
    expect(engine.info().load).toMatchObject({ running: 0, waiting: 0, freeBlocks: 64 });
    await engine.dispose();
  });

  it('is not what a request hears that could never run: it is refused for that, whoever waits', async () => {
    const { engine, runner, ask, serve } = narrowEngine({ maxQueued: 1, numBlocks: 4 });
    const first = ask(0);
    await until(() => runner.busy);
    const waiting = ask(1);
    const { load } = engine.info();
    await expect(ask(2, { maxTokens: 60 })).rejects.toMatchObject({ code: 'ERR_CACHE_TOO_SMALL' });
    await expect(ask(2, { maxTokens: 600 })).rejects.toMatchObject({ code: 'ERR_CONTEXT_LENGTH' });
    expect(engine.info().load).toEqual(load);
    await serve(Promise.all([first, waiting]));
    await engine.dispose();
  });
});

describe('a queue timeout', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('of the request or of the engine ends the wait, and only that', async () => {
    const { engine, runner, ask, serve } = narrowEngine({ queueTimeoutMs: 500 });
    expect(engine.info().queueTimeoutMs).toBe(500);
    const first = ask(0, { maxTokens: 20 });
    await until(() => runner.busy);
    const quick = ask(1, { queueTimeoutMs: 100 });
    const usual = ask(2);
    const patient = ask(3, { queueTimeoutMs: 5000 });
    const failures = [
      expect(quick).rejects.toMatchObject({ ...late, message: expect.stringMatching(/within 100 ms/) }),
      expect(usual).rejects.toMatchObject({ ...late, message: expect.stringMatching(/within 500 ms/) }),
    ];
    vi.advanceTimersByTime(99);
    expect(engine.info().load.waiting).toBe(3);
    vi.advanceTimersByTime(1);
    await failures[0];
    expect(engine.info().load.waiting).toBe(2);
    vi.advanceTimersByTime(1000);
    await failures[1];
    expect(engine.info().load).toMatchObject({ running: 1, waiting: 1 });
    const [{ tokenIds }] = await serve(Promise.all([first, patient]));
    expect(tokenIds).toEqual(fakeAnswer(prompt(10, 0), { maxTokens: 20, vocabSize }));
    expect(vi.getTimerCount()).toBe(0);
    await engine.dispose();
  });

  it('has no effect once the request has started, even when it waits again for its blocks', async () => {
    const { engine, runner, ask, serve } = narrowEngine();
    const low = ask(0, { maxTokens: 8, priority: -1, queueTimeoutMs: 100 });
    await until(() => runner.busy);
    runner.release();
    await until(() => runner.busy);
    const high = ask(1, { maxTokens: 8 });
    runner.release();
    await until(() => runner.busy);
    expect(engine.info().load).toMatchObject({ running: 1, waiting: 1, preemptions: 1 });
    vi.advanceTimersByTime(1000);
    expect(engine.info().load).toMatchObject({ running: 1, waiting: 1 });
    await serve(Promise.all([low, high]));
    expect((await low).tokenIds).toEqual(fakeAnswer(prompt(10, 0), { maxTokens: 8, vocabSize }));
    await engine.dispose();
  });

  it('is for a request as a whole: its other answers may still wait', async () => {
    const { engine, runner, serve } = narrowEngine();
    const results = engine.generate({ tokenIds: prompt(9), maxTokens: 3, n: 4, queueTimeoutMs: 100 }).results();
    await until(() => runner.busy);
    vi.advanceTimersByTime(1000);
    expect(await serve(results)).toHaveLength(4);
    const busy = engine.generate({ tokenIds: prompt(9), maxTokens: 3 }).result();
    await until(() => runner.busy);
    const all = engine.generate({ tokenIds: prompt(9), maxTokens: 3, n: 4, queueTimeoutMs: 100 }).results();
    const failed = expect(all).rejects.toMatchObject(late);
    await turn();
    vi.advanceTimersByTime(100);
    await failed;
    expect(engine.info().load).toMatchObject({ running: 1, waiting: 0 });
    await serve(busy);
    await engine.dispose();
  });

  it('leaves no timer behind, whatever the end', async () => {
    const { engine, runner, ask, serve } = narrowEngine({ queueTimeoutMs: 100, maxQueued: 2 });
    await serve(ask(0));
    expect(vi.getTimerCount()).toBe(0);
    const controller = new AbortController();
    const first = ask(0);
    const waiting = ask(1, { signal: controller.signal });
    const disposed = ask(2);
    await until(() => runner.busy);
    await expect(ask(3)).rejects.toMatchObject(full);
    expect(vi.getTimerCount()).toBe(3);
    controller.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    expect(vi.getTimerCount()).toBe(2);
    await serve(first);
    const gone = expect(disposed).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    await engine.dispose();
    await gone;
    expect(vi.getTimerCount()).toBe(0);
  });

  it('is none by default, and none for a request that waits for nobody', async () => {
    const { engine, ask, runner, serve } = narrowEngine();
    expect(engine.info().queueTimeoutMs).toBeNull();
    const first = ask(0);
    const second = ask(1);
    await until(() => runner.busy);
    expect(vi.getTimerCount()).toBe(0);
    await serve(Promise.all([first, second]));
    await engine.dispose();
  });
});

describe('priority', () => {
  it('overtakes in the queue, and equals stay in the order in which they came', async () => {
    const { engine, runner, ask, serve } = narrowEngine();
    const order: number[] = [];
    const first = ask(0, { priority: 9 });
    await until(() => runner.busy);
    const all = [0, 0, 5, -3, 5, 1].map(async (priority, i) => {
      await ask(i + 1, { priority });
      order.push(i + 1);
    });
    await serve(Promise.all([first, ...all]));
    expect(order).toEqual([3, 5, 6, 1, 2, 4]);
    await engine.dispose();
  });

  it('takes the place of one that runs, whose answer and stream stay the same', async () => {
    const { engine, runner } = fakeEngine({ maxSeqs: 1 });
    const low = engine.generate({ tokenIds: prompt(10), maxTokens: 30 })[Symbol.asyncIterator]();
    const ids: number[] = [];
    for (let i = 0; i < 5; i++) {
      const { value } = await low.next();
      if (value?.type === 'text') ids.push(...value.tokenIds);
    }
    const before = runner.steps;
    const high = await engine.generate({ tokenIds: prompt(10, 1), maxTokens: 4, priority: 1 }).result();
    expect(high.tokenIds).toEqual(fakeAnswer(prompt(10, 1), { maxTokens: 4, vocabSize }));
    expect(runner.steps - before).toBeLessThanOrEqual(6);
    for (let next = await low.next(); !next.done; next = await low.next()) {
      if (next.value.type === 'text') ids.push(...next.value.tokenIds);
      else expect(next.value.usage.preemptions).toBe(1);
    }
    expect(ids).toEqual(fakeAnswer(prompt(10), { maxTokens: 30, vocabSize }));
    await engine.dispose();
  });
});
