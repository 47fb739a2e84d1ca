// FLOPs against values worked out by hand, and against counting every product of every row.

import { describe, expect, it } from 'vitest';
import {
  decodeFlops,
  type FlopShape,
  flopRatio,
  layerFlops,
  prefillFlops,
  visibleKeys,
} from '../../lib/cli/bench/flops.ts';
import { decodeBytes, latencyTests, positionsOf, testName, tokensThatFit } from '../../lib/cli/bench/latency-grid.ts';
import type { ModelInfo } from '../../lib/model/model-info.ts';
import { parseRandomModel } from '../../lib/model/random.ts';

const tiny: FlopShape = {
  vocabSize: 10,
  hiddenSize: 4,
  intermediateSize: 6,
  numLayers: 4,
  numHeads: 2,
  numKvHeads: 1,
  headDim: 3,
  numKvLayers: 4,
  groupSize: 1,
};

describe('by hand', () => {
  it('a layer: q and o are [6, 4], k and v [3, 4], the MLP three of [6, 4]', () => {
    expect(layerFlops(tiny)).toEqual({ qo: 2 * 2 * 24, kv: 2 * 2 * 12, mlp: 3 * 2 * 24, key: 2 * 2 * 6 });
  });

  it('three rows see 1 + 2 + 3 keys, and 5 more each behind 5', () => {
    expect(visibleKeys(3, 0)).toBe(6);
    expect(visibleKeys(3, 5)).toBe(21);
  });

  it('a plain prompt of 3 tokens', () => {
    // 4 layers x (3 rows x (96 + 48 + 144) + 24 x 6 keys) + a head of 2 x 4 x 10 for one row
    expect(prefillFlops(tiny, 3)).toBe(4 * (3 * 288 + 144) + 80);
  });

  it('SwiftKV: two later layers share their keys and values, and see the last row only', () => {
    const c = { ...tiny, numKvLayers: 2, groupSize: 2 };
    const early = 2 * (3 * 288 + 144);
    const project = 1 * 3 * 48;
    const last = 2 * (96 + 144 + 24 * 3);
    expect(prefillFlops(c, 3)).toBe(early + project + last + 80);
    expect(flopRatio(tiny, c, 3)).toBeCloseTo((4 * 1008 + 80) / (2016 + 144 + 624 + 80), 12);
  });

  it('one token behind 10', () => {
    expect(decodeFlops(tiny, 10)).toBe(4 * (288 + 24 * 11) + 80);
  });
});

/** Every product that the forward pass of one prompt runs, row by row. */
function counted(c: FlopShape, rows: number, depth: number): number {
  const product = (n: number, k: number) => 2 * n * k;
  const attention = (keys: number) => 2 * (2 * c.numHeads * c.headDim * keys);
  let sum = product(c.vocabSize, c.hiddenSize);
  for (let l = 0; l < c.numLayers; l++) {
    const later = l >= c.numKvLayers;
    const leads = !later || (l - c.numKvLayers) % c.groupSize === 0;
    for (let row = 0; row < rows; row++) {
      if (leads) sum += 2 * product(c.numKvHeads * c.headDim, c.hiddenSize);
      if (later && row < rows - 1) continue;
      sum += 2 * product(c.numHeads * c.headDim, c.hiddenSize);
      sum += attention(depth + row + 1);
      sum += 3 * product(c.intermediateSize, c.hiddenSize);
    }
  }
  return sum;
}

describe('counted row by row', () => {
  const forms = ['', '?kv-layers=25%', '?kv-layers=50%&group=2', '?kv-layers=62.5%&group=3'];
  it.each(forms)('embedded%s', (form) => {
    const { config } = parseRandomModel(`random:embedded${form}`);
    for (const [rows, depth] of [
      [1, 0],
      [2, 0],
      [37, 0],
      [1, 100],
      [64, 1000],
    ] as const) {
      expect(prefillFlops(config, rows, depth)).toBe(counted(config, rows, depth));
    }
  });

  it('allows SwiftKV 50% of the 1B shape 1.94 times the speed at 2,048 tokens', () => {
    const plain = parseRandomModel('random:llama-3.2-1b').config;
    const swift = parseRandomModel('random:llama-3.2-1b?kv-layers=50%').config;
    expect(flopRatio(plain, swift, 2048)).toBeCloseTo(1.94, 1);
    expect(flopRatio(plain, plain, 2048)).toBe(1);
  });
});

describe('the grid', () => {
  it('goes depth by depth, prompts before answers, and names its tests', () => {
    const names = latencyTests([128, 512], [64], [0, 2048]).map(testName);
    expect(names).toEqual(['pp128', 'pp512', 'tg64', 'pp128 @ d2048', 'pp512 @ d2048', 'tg64 @ d2048']);
  });

  it('has room for each test and its first token', () => {
    expect(positionsOf({ kind: 'prefill', tokens: 128, depth: 10 })).toBe(139);
    expect(positionsOf({ kind: 'decode', tokens: 64, depth: 10 })).toBe(76);
  });

  it('counts whole blocks that fit', () => {
    expect(tokensThatFit({ kvBytesPerToken: 100, blockTokens: 16 }, 1600 * 3 - 1)).toBe(32);
    expect(tokensThatFit({ kvBytesPerToken: 100, blockTokens: 16 }, 1599)).toBe(0);
  });

  it('decoding reads all weights but a table of embeddings of its own, and a shared cache once for each layer', () => {
    const { config } = parseRandomModel('random:embedded?kv-layers=50%&group=4');
    // 5 caches of 4 heads x 32 x 2 sides in bf16: 512 bytes each.
    const info = { config, dtype: 'bf16', kvBytesPerToken: 5 * 512, bytes: { weights: 1e6 } } as ModelInfo;
    const test = { kind: 'decode', tokens: 10, depth: 95 } as const;
    expect(decodeBytes(info, test)).toBe(1e6 + 100 * 8 * 512);
    const untied = { ...info, config: { ...config, tieWordEmbeddings: false } };
    expect(decodeBytes(untied, test)).toBe(1e6 + 100 * 8 * 512 - 4096 * 256 * 2);
  });
});
