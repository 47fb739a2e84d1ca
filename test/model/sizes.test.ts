// Memory is counted before it is taken: touched pages that do not exist end the process, not the load.

import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../lib/model/parse-config.ts';
import { chooseSizes, type MemoryBudget } from '../../lib/model/sizes.ts';

const GiB = 2 ** 30;
const config = parseConfig({ model_type: 'llama', max_position_embeddings: 131_072, num_hidden_layers: 32 });
const budget: MemoryBudget = { available: 40 * GiB, weights: 3 * GiB, workspace: 1 * GiB, reserve: GiB / 4 };
const bytesPerToken = 128 * 1024;

describe('default sizes', () => {
  it('cap the context, and hold what a quarter of the free memory holds', () => {
    const sizes = chooseSizes(config, bytesPerToken, budget, {});
    expect(sizes.maxModelLen).toBe(32_768);
    expect(sizes.kvPoolBytes).toBe(9 * GiB);
    expect(sizes.capacity).toEqual({
      maxRows: 512,
      maxSeqs: 64,
      maxLogitRows: 64,
      numLayers: 32,
      vocabSize: 32000,
      maxTopLogprobs: 20,
      maxCopies: 64,
      maxBlocksPerSeq: 2048,
    });
  });

  it('are eight full sequences where memory is plenty', () => {
    const sizes = chooseSizes(config, bytesPerToken, { ...budget, available: 1000 * GiB }, {});
    expect(sizes.numBlocks).toBe((8 * 32_768) / 16);
  });

  it('shrink the context to what the pool holds, unless it was asked for', () => {
    const small = { ...budget, available: 5 * GiB };
    expect(chooseSizes(config, bytesPerToken, small, {}).maxModelLen).toBe(2048);
    expect(() => chooseSizes(config, bytesPerToken, small, { maxModelLen: 32_768 })).toThrow(/needs 8\.0 GiB/);
  });

  it('round a pool that was asked for down to whole blocks', () => {
    const sizes = chooseSizes(config, 100, budget, { kvCacheBytes: 16 * 100 * 7 + 1599 });
    expect(sizes).toMatchObject({ numBlocks: 7, kvPoolBytes: 16 * 100 * 7, maxModelLen: 112 });
  });
});

describe('sizes that cannot be', () => {
  it('name every part of the sum that did not fit', () => {
    const choose = () => chooseSizes(config, bytesPerToken, budget, { kvCacheBytes: 38 * GiB });
    expect(choose).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_MEMORY' }));
    expect(choose).toThrow(
      /42\.0 GiB: weights 3\.0 GiB, KV cache 38\.0 GiB, workspace 1\.0 GiB; available are 40\.0 GiB beside 256\.0 MiB/,
    );
  });

  it.each([
    [{ maxModelLen: 131_073 }, /maxModelLen/],
    [{ maxModelLen: 0 }, /maxModelLen/],
    [{ maxModelLen: 1.5 }, /maxModelLen/],
    [{ kvCacheBytes: 1000 }, /kvCacheBytes/],
    [{ kvCacheBytes: Number.NaN }, /kvCacheBytes/],
    [{ maxRows: 0 }, /maxRows/],
    [{ maxRows: 8, maxSeqs: 9 }, /maxSeqs/],
    [{ maxLogitRows: -1 }, /maxLogitRows/],
  ])('refuses %j', (options, message) => {
    expect(() => chooseSizes(config, bytesPerToken, budget, options)).toThrow(message);
    expect(() => chooseSizes(config, bytesPerToken, budget, options)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }),
    );
  });
});
