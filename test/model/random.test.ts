// `random:` models: a description that is wrong must not become a model of another shape.

import { describe, expect, it } from 'vitest';
import { parseRandomModel } from '../../lib/model/random.ts';

describe('random:', () => {
  it('is a plain Llama without kv-layers', () => {
    expect(parseRandomModel('random:llama-3.2-1b')).toMatchObject({
      seed: 1,
      config: { modelType: 'llama', numLayers: 16, numKvLayers: 16, groupSize: 1, hiddenSize: 2048, eosTokenIds: [] },
    });
  });

  it.each([
    ['50%', 8],
    ['25%', 4],
    ['100%', 16],
    ['12', 12],
  ])('takes kv-layers=%s of 16 as %i', (text, n) => {
    const { config } = parseRandomModel(`random:llama-3.2-1b?kv-layers=${text}&group=1&seed=7`);
    expect(config).toMatchObject({ modelType: 'llama_swiftkv', numKvLayers: n });
  });

  it.each([
    'random:gpt-5',
    'random:',
    'random:toString',
    'random:llama-3.2-1b?kv-layers=0%',
    'random:llama-3.2-1b?kv-layers=17',
    'random:llama-3.2-1b?kv-layers=half',
    'random:llama-3.2-1b?kv-layers=50%&group=3',
    'random:llama-3.2-1b?seed=-1',
    'random:llama-3.2-1b?seed=',
    'random:llama-3.2-1b?layers=3',
  ])('refuses %s', (source) => {
    expect(() => parseRandomModel(source)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
  });
});
