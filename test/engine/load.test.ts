// Engine.load on real folders: what comes out of it, what it says of itself, and what it refuses.

import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LoadProgress } from '../../lib/index.ts';
import { Engine, errorCodes, SwiftKVError, version } from '../../lib/index.ts';

const folder = (name: string) => fileURLToPath(new URL(`../../${name}`, import.meta.url));

describe('an engine over an embedded SwiftKV variant', () => {
  let engine: Engine;
  const progress: LoadProgress[] = [];
  beforeAll(async () => {
    engine = await Engine.load(folder('models/swiftkv-50'), { threads: 1, onProgress: (p) => progress.push({ ...p }) });
  });
  afterAll(() => engine.dispose());

  it('reports progress up to the end', () => {
    expect(progress.at(-1)).toMatchObject({ phase: 'weights' });
    expect(progress.at(-1)!.loadedBytes).toBe(progress.at(-1)!.totalBytes);
  });

  it('says what was chosen', () => {
    expect(engine.info()).toMatchObject({
      mode: 'student',
      backend: 'cpu',
      threads: 1,
      tokenizer: true,
      chatTemplate: true,
      maxStepMs: 250,
      defaults: { temperature: 0, source: 'generation_config.json' },
      load: { running: 0, waiting: 0, steps: 0 },
    });
  });

  it('streams the text that the result holds, and repeats itself', async () => {
    const request = { prompt: 'The president of the country', maxTokens: 24 };
    const { text, tokenIds, usage } = await engine.generate(request).result();
    expect(text.length).toBeGreaterThan(20);
    expect(usage.rowLayersSkipped).toBe((usage.promptTokens - 1) * 4);
    let streamed = '';
    const ids: number[] = [];
    for await (const part of engine.generate(request)) {
      if (part.type !== 'text') continue;
      streamed += part.text;
      ids.push(...part.tokenIds);
    }
    expect([streamed, ids]).toEqual([text, tokenIds]);
  });

  it('ends a conversation at the end of the turn', async () => {
    const messages = [{ role: 'user', content: 'Hello.' }];
    const { finishReason, tokenIds, text } = await engine.generate({ messages, maxTokens: 400 }).result();
    if (finishReason === 'stop') expect(engine.info().config.eosTokenIds).toContain(tokenIds.at(-1));
    expect(text).not.toMatch(/<\|/);
  });

  it('goes from text to ids and back', async () => {
    const text = 'Zürich, 42 °C: “naïve” 🦙';
    const ids = await engine.tokenize(text, { addSpecialTokens: false });
    expect(await engine.detokenize(ids)).toBe(text);
  });
});

describe('Engine.load', () => {
  it('takes token ids where there is no tokenizer, and refuses text', async () => {
    await using engine = await Engine.load(folder('test/golden/data/llama_swiftkv_g1'));
    const { tokenIds, text } = await engine.generate({ tokenIds: [5, 6, 7], maxTokens: 3 }).result();
    expect([tokenIds.length, text]).toEqual([3, '']);
    await expect(engine.generate({ prompt: 'x' }).result()).rejects.toMatchObject({ code: 'ERR_NO_TOKENIZER' });
  });

  it('refuses a folder that is not there, and stops when told to', async () => {
    const missing = await Engine.load(folder('models/none')).catch((error) => error);
    expect(SwiftKVError.is(missing)).toBe(true);
    expect(missing.code).toBe('ERR_MODEL_NOT_FOUND');
    expect(Object.keys(errorCodes)).toContain(missing.code);
    const controller = new AbortController();
    const loading = Engine.load(folder('models/base'), { signal: controller.signal });
    controller.abort();
    await expect(loading).rejects.toMatchObject({ code: 'ERR_ABORTED' });
  });

  it('runs two engines at once, each with its own answers', async () => {
    const names = ['models/base', 'models/swiftkv-50'];
    const engines = await Promise.all(names.map((name) => Engine.load(folder(name), { threads: 1 })));
    const ask = (engine: Engine) => engine.generate({ prompt: 'One day', maxTokens: 12 }).result();
    const together = await Promise.all(engines.map(ask));
    for (const [i, engine] of engines.entries()) expect((await ask(engine)).tokenIds).toEqual(together[i]!.tokenIds);
    await Promise.all(engines.map((engine) => engine.dispose()));
  });

  it('is of the version that package.json says', () => {
    expect(version).toMatch(/^\d+\.\d+\.\d+/);
  });
});
