// Every way to stop a request, at every stage: who is told, when, and what happens to the step and the neighbours.

import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { fakeAnswer } from './fake-model.ts';
import { byteTokenizer, fakeEngine, prompt, turn, until } from './harness.ts';

const vocabSize = 97;
const aborted = { code: 'ERR_ABORTED' };

describe('abort by signal', () => {
  it('starts nothing when the signal is aborted already', async () => {
    const { engine, runner } = fakeEngine();
    const reason = new Error('changed my mind');
    const signal = AbortSignal.abort(reason);
    const result = engine.generate({ tokenIds: prompt(5), signal }).result();
    await expect(result).rejects.toMatchObject({ ...aborted, cause: reason });
    await expect(engine.logits(prompt(5), { signal })).rejects.toMatchObject(aborted);
    await turn();
    expect(runner.steps).toBe(0);
    await engine.dispose();
  });

  it('settles at once, during a step, and stops the step when nobody is left in it', async () => {
    const { engine, runner } = fakeEngine({ manual: true });
    const controller = new AbortController();
    const result = engine.generate({ tokenIds: prompt(50), signal: controller.signal }).result();
    const settled = expect(result).rejects.toMatchObject(aborted);
    await until(() => runner.busy);
    controller.abort();
    await settled;
    expect(runner.cancels).toBe(1);
    await until(() => !runner.busy);
    expect(engine.info().load).toMatchObject({ running: 0, waiting: 0, freeBlocks: 64 });
    await engine.dispose();
  });

  it('lets the step end while a neighbour is in it, whose answer stays what it is alone', async () => {
    const { engine, runner } = fakeEngine({ manual: true });
    const controller = new AbortController();
    const victim = engine.generate({ tokenIds: prompt(30, 1), signal: controller.signal }).result();
    const neighbour = engine.generate({ tokenIds: prompt(30, 2), maxTokens: 8 }).result();
    const settled = expect(victim).rejects.toMatchObject(aborted);
    await until(() => runner.busy);
    controller.abort();
    await settled;
    expect(runner.cancels).toBe(0);
    let done = false;
    neighbour.finally(() => {
      done = true;
    });
    while (!done) {
      if (runner.busy) runner.release();
      await turn();
    }
    expect((await neighbour).tokenIds).toEqual(fakeAnswer(prompt(30, 2), { maxTokens: 8, vocabSize }));
    await engine.dispose();
  });

  it('takes a waiting request out of the queue', async () => {
    const { engine, runner } = fakeEngine({ maxSeqs: 1, manual: true });
    const controller = new AbortController();
    const first = engine.generate({ tokenIds: prompt(5), maxTokens: 1 }).result();
    const waiting = engine.generate({ tokenIds: prompt(5), signal: controller.signal }).result();
    await until(() => runner.busy);
    controller.abort();
    await expect(waiting).rejects.toMatchObject(aborted);
    runner.release();
    await first;
    expect(runner.steps).toBe(1);
    await engine.dispose();
  });

  it('rejects the stream, and leaves no listener on the signal, whatever the end', async () => {
    const { engine } = fakeEngine();
    const controller = new AbortController();
    const { signal } = controller;
    const request = { tokenIds: prompt(10), maxTokens: 3, signal };
    await engine.generate(request).result();
    for await (const _ of engine.generate(request)) break;
    await engine
      .generate({ ...request, maxTokens: 1000 })
      .result()
      .catch(() => {});
    await engine.logits(prompt(10), { signal });
    expect(getEventListeners(signal, 'abort')).toEqual([]);
    const seen: string[] = [];
    const stream = async () => {
      for await (const part of engine.generate({ ...request, maxTokens: 400 })) {
        seen.push(part.type);
        if (seen.length === 3) controller.abort();
      }
    };
    await expect(stream()).rejects.toMatchObject(aborted);
    expect(seen).toEqual(['text', 'text', 'text']);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
    await engine.dispose();
  });

  it('does not touch a request that has ended', async () => {
    const { engine } = fakeEngine();
    const controller = new AbortController();
    const parts = engine.generate({ tokenIds: prompt(10), maxTokens: 3, signal: controller.signal });
    const iterator = parts[Symbol.asyncIterator]();
    await iterator.next();
    await until(() => engine.info().load.running === 0);
    controller.abort();
    expect((await iterator.next()).value).toMatchObject({ type: 'text' });
    expect((await iterator.next()).value).toMatchObject({ type: 'finish' });
    await engine.dispose();
  });

  it('settles while the prompt is being tokenized, and nothing is queued when that ends', async () => {
    let finish = (_ids: Int32Array) => {};
    const encode = () => new Promise<Int32Array>((resolve) => (finish = resolve));
    const { engine, runner } = fakeEngine({ tokenizer: { ...byteTokenizer(), encode }, vocabSize: 256 });
    const controller = new AbortController();
    const result = engine.generate({ prompt: 'x', signal: controller.signal }).result();
    await turn();
    controller.abort();
    await expect(result).rejects.toMatchObject(aborted);
    finish(Int32Array.of(120));
    await turn();
    expect(engine.info().load).toMatchObject({ running: 0, waiting: 0, steps: 0 });
    expect(runner.busy).toBe(false);
    await engine.dispose();
  });

  it('ends a scored text', async () => {
    const { engine, runner } = fakeEngine({ manual: true });
    const controller = new AbortController();
    const logits = engine.logits(prompt(40), { signal: controller.signal });
    const settled = expect(logits).rejects.toMatchObject(aborted);
    await until(() => runner.busy);
    controller.abort();
    await settled;
    await engine.dispose();
    expect(engine.info().load.freeBlocks).toBe(64);
  });
});

describe('leaving a stream', () => {
  it('ends quietly, frees everything within a step, and is no error for a waiting next', async () => {
    const { engine, runner } = fakeEngine();
    for await (const part of engine.generate({ tokenIds: prompt(30) })) {
      expect(part.type).toBe('text');
      break;
    }
    await until(() => !runner.busy);
    expect(engine.info().load).toMatchObject({ running: 0, freeBlocks: 64 });
    const iterator = engine.generate({ tokenIds: prompt(30) })[Symbol.asyncIterator]();
    const waiting = iterator.next();
    await Promise.resolve();
    expect(await iterator.return?.()).toEqual({ done: true, value: undefined });
    expect(await waiting).toEqual({ done: true, value: undefined });
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
    await engine.dispose();
  });

  it('gives the error of the loop body, not one of its own', async () => {
    const { engine } = fakeEngine();
    const body = async () => {
      for await (const _ of engine.generate({ tokenIds: prompt(30) })) throw new Error('mine');
    };
    await expect(body()).rejects.toThrow('mine');
    await engine.dispose();
  });
});

describe('dispose', () => {
  it('rejects running, waiting and tokenizing requests with ERR_DISPOSED, once, and frees the model', async () => {
    const tokenizer = byteTokenizer();
    let encoding = false;
    const { encode } = tokenizer;
    tokenizer.encode = (text) => {
      if (text !== 'slow') return encode(text);
      encoding = true;
      return new Promise(() => {});
    };
    const { engine, runner } = fakeEngine({ maxSeqs: 1, manual: true, tokenizer, vocabSize: 256 });
    const pending = [
      engine.generate({ tokenIds: prompt(40), maxTokens: 50 }).result(),
      engine
        .generate({ tokenIds: prompt(40), maxTokens: 50 })
        [Symbol.asyncIterator]()
        .next(),
      engine.generate({ prompt: 'slow' }).result(),
      engine.logits(prompt(20)),
    ].map((p) => p.then(String, (error) => error.code));
    await until(() => runner.busy && encoding);
    const [first, second] = [engine.dispose(), engine.dispose()];
    expect(await Promise.all(pending)).toEqual(['ERR_DISPOSED', 'ERR_DISPOSED', 'ERR_DISPOSED', 'ERR_DISPOSED']);
    await Promise.all([first, second, engine.dispose()]);
    expect(runner).toMatchObject({ disposals: 1, cancels: 1 });
    expect(tokenizer.disposals).toBe(1);
    for (const late of [
      engine.generate({ tokenIds: prompt(4) }).result(),
      engine.generate({ prompt: 'x' }).result(),
      engine.logits([1]),
      engine.tokenize('x'),
      engine.detokenize([1]),
    ]) {
      await expect(late).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    }
  });

  it('leaves what a reader has not fetched yet readable', async () => {
    const { engine } = fakeEngine();
    const iterator = engine.generate({ tokenIds: prompt(10), maxTokens: 3 })[Symbol.asyncIterator]();
    await iterator.next();
    await until(() => engine.info().load.running === 0);
    await engine.dispose();
    expect((await iterator.next()).value).toMatchObject({ type: 'text' });
    expect((await iterator.next()).value).toMatchObject({ type: 'finish' });
  });

  it('is what await using calls', async () => {
    const { engine, runner } = fakeEngine();
    await engine[Symbol.asyncDispose]();
    expect(runner.disposals).toBe(1);
  });
});

describe('a defect of the loop itself', () => {
  it('leaves nobody waiting', async () => {
    const { engine, runner } = fakeEngine();
    // A counter that cannot be read: thrown after the step, outside of what a failing step is expected to do.
    Object.defineProperty(runner.batches[0], 'rowLayers', { get: () => undefined });
    Object.defineProperty(runner.batches[1], 'rowLayers', { get: () => undefined });
    const results = await Promise.allSettled([
      engine.generate({ tokenIds: prompt(4) }).result(),
      engine.logits(prompt(4)),
    ]);
    expect(results.map((r) => r.status)).toEqual(['rejected', 'rejected']);
    await expect(engine.generate({ tokenIds: prompt(4) }).result()).rejects.toMatchObject({ code: 'ERR_INTERNAL' });
    await engine.dispose();
    const { complaints } = await import('./check-batch.ts');
    complaints.length = 0;
  });
});
