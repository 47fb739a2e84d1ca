import { describe, expect, it } from 'vitest';
import {
  defaultFixedVariants,
  defaultVariants,
  parseVariant,
  variantsOf,
} from '../../lib/cli/bench/latency-variants.ts';
import { parseRandomModel } from '../../lib/model/random.ts';

const model = 'random:llama-3.2-1b';

describe('variants', () => {
  it('say what to load', () => {
    expect(parseVariant(model, 'plain')).toEqual({ model, name: 'plain', source: model });
    expect(parseVariant(model, 'kv62.5%')).toMatchObject({ source: `${model}?kv-layers=62.5%` });
    expect(parseVariant(`${model}?seed=3`, 'kv50%/4+cache=fp8+dtype=f32+weights=int4')).toMatchObject({
      source: `${model}?seed=3&kv-layers=50%&group=4`,
      kvCacheDtype: 'fp8',
      dtype: 'f32',
      weightDtype: 'int4',
    });
  });

  it('of the defaults exist for every random shape', () => {
    for (const shape of ['llama-3.2-1b', 'llama-3.1-8b', 'embedded']) {
      const sources = variantsOf(`random:${shape}`, undefined).map((variant) => variant.source);
      expect(sources).toHaveLength(defaultVariants.length);
      for (const source of sources) expect(() => parseRandomModel(source)).not.toThrow();
    }
  });

  it('leave the layers of other models alone', () => {
    for (const fixed of ['embedded:base', '/a/folder', `${model}?kv-layers=50%`]) {
      const variants = variantsOf(fixed, undefined);
      expect(variants.map((variant) => variant.name)).toEqual(defaultFixedVariants);
      expect(variants.every((variant) => variant.source === fixed)).toBe(true);
      expect(() => parseVariant(fixed, 'kv50%')).toThrow(/whose layers are given/);
    }
  });

  const wrong = [
    '',
    'kv50',
    'kv50%/',
    'kv200%',
    'kv50%/3',
    'plain+',
    'plain+cache',
    'plain+cache=int3',
    'plain+toString=1',
  ];
  it.each(wrong)('%j is refused', (name) => {
    expect(() => parseVariant(model, name)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
  });
});
