// The arithmetic of scripts/cuda-predict.mjs. Needs no toolkit: plans and occupancy are given.

import { describe, expect, it } from 'vitest';

const load = (file: string) => import(`../../scripts/cuda-predict/${file}.mjs`);
const { kernelTime } = await load('kernel-time');
const { assumed, gpus } = await load('machines');
const { cacheBytes, cacheTokenBytes, halves, models, variants, weightBytes } = await load('models');
const { Ops } = await load('ops');
const { decodeStep, prefillSeconds, stepSeconds, throughput } = await load('steps');
const { rounded } = await load('tables');

const small = models['Llama-3.1-8B'];
const fourWay = 'SwiftKV 50%, 4-way AcrossKV, fp8 cache';

// One multiprocessor does 1e12 operations a second, memory gives 1e12 bytes a second after its share, the L2 cache 4e12.
const gpu = {
  multiprocessors: 10,
  dram: 1e12 / assumed.dramShare,
  tensor: 2e13,
  tensorReached: 0.5,
  l2: 4e12,
  latency: 1e-6,
};

describe('the time of a kernel', () => {
  const seconds = (kernel: object) => kernelTime(gpu, { blocksPerSm: 2, inFlight: 1e9, ...kernel });

  it('is the bytes of memory where those are most', () => {
    expect(seconds({ dram: 1e9, blocks: 20 })).toEqual({ seconds: 1e-3 + assumed.ramp, bound: 'memory' });
  });

  it('is what the busiest multiprocessor computes', () => {
    // 20 blocks are two for each; 21 are three for one of them.
    expect(seconds({ flops: 2e10, blocks: 20 }).seconds).toBeCloseTo(2e-3 + assumed.ramp, 12);
    expect(seconds({ flops: 2.1e10, blocks: 21 })).toMatchObject({ bound: 'compute' });
    expect(seconds({ flops: 2.1e10, blocks: 21 }).seconds).toBeCloseTo(3e-3 + assumed.ramp, 12);
    expect(seconds({ flops: 2e10, share: 0.5, blocks: 20 }).seconds).toBeCloseTo(4e-3 + assumed.ramp, 12);
  });

  it('is what blocks read again from the L2 cache', () => {
    expect(seconds({ dram: 1e6, l2: 8e9, blocks: 20 })).toEqual({ seconds: 2e-3 + assumed.ramp, bound: 'l2' });
  });

  it('is the latency where too few bytes are on their way', () => {
    // One block of 1,000 bytes at a time on each of 5 multiprocessors: 5e9 bytes a second.
    const few = seconds({ dram: 5e6, blocks: 5, inFlight: 1000 });
    expect(few.bound).toBe('latency');
    expect(few.seconds).toBeCloseTo(1e-3 + assumed.ramp, 9);
    // Occupancy: blocks that share a multiprocessor have their bytes on the way together.
    const two = seconds({ dram: 5e6, blocks: 1000, blocksPerSm: 2, inFlight: 1000 }).seconds;
    const four = seconds({ dram: 5e6, blocks: 1000, blocksPerSm: 4, inFlight: 1000 }).seconds;
    expect((two - assumed.ramp) / (four - assumed.ramp)).toBeCloseTo(2, 9);
  });

  it('is the ramp for what is tiny, and nothing for no blocks', () => {
    expect(seconds({ dram: 100, blocks: 1 }).bound).toBe('ramp');
    expect(seconds({ blocks: 0 }).seconds).toBe(0);
  });
});

describe('models', () => {
  it('have the published numbers of weights', () => {
    expect(weightBytes(small, variants.plain) / 2e9).toBeCloseTo(8.03, 2);
    expect(weightBytes(models['Llama-3.1-70B'], variants.plain) / 2e9).toBeCloseTo(70.55, 2);
  });

  it('have the caches of their variant', () => {
    expect(halves(small, variants.plain)).toEqual({ early: 32, late: 0, groups: 0, caches: 32 });
    expect(halves(small, variants['SwiftKV 50%'])).toMatchObject({ early: 16, late: 16, caches: 32 });
    expect(halves(small, variants[fourWay])).toMatchObject({ groups: 4, caches: 20 });
    expect(cacheTokenBytes(small, 'bf16')).toBe(4096);
    // docs: 4-way and fp8 with dynamic scales is 32.2% of plain bf16.
    const share = cacheBytes(small, variants[fourWay], 1, 1) / cacheBytes(small, variants.plain, 1, 1);
    expect(share).toBeCloseTo(0.322, 3);
  });
});

describe('steps', () => {
  const plan = {
    tile: 't',
    rows: 128,
    columns: 128,
    blocks: 320,
    rowTiles: 16,
    inFlight: 50_000,
    splits: 4,
    apart: true,
  };
  const asked: string[] = [];
  const ops = new Ops({
    gpu: gpus.A100,
    model: small,
    plans: (question: string) => {
      asked.push(question);
      return plan;
    },
    blocksPerSm: () => 2,
  });

  it('launch what the model launches', () => {
    const { kernels } = stepSeconds(decodeStep(ops, variants.plain, 1, 2048));
    expect(kernels).toBe(1 + 32 * (2 + 5 + 2) + 1 + 4); // attention is two kernels where splits go apart
    const swift = stepSeconds(decodeStep(ops, variants[fourWay], 1, 2048)).kernels;
    expect(swift).toBe(kernels + 2); // the projection and its norm
    expect(asked).toContain('linear 1 128256 108');
    expect(asked).toContain('decode 1 32 8 128 fp8_e4m3 2048 108');
  });

  it('take at least as long as the host launches', () => {
    const list = [['embed', 10, { seconds: 1e-7 }]];
    expect(stepSeconds(list)).toMatchObject({ seconds: 10 * assumed.issue, kernels: 10 });
  });

  it('gain from SwiftKV what late layers need not do for a prompt', () => {
    const plain = prefillSeconds(ops, variants.plain, 8192);
    const swift = prefillSeconds(ops, variants['SwiftKV 50%'], 8192);
    expect(swift / plain).toBeGreaterThan(0.5);
    expect(swift / plain).toBeLessThan(0.62);
    const one = throughput(ops, variants.plain, 1, 2048);
    expect(one.prefillShare).toBeGreaterThan(0);
    expect(throughput(ops, variants.plain, 32, 2048).tokensPerSecond).toBeGreaterThan(one.tokensPerSecond);
  });
});

it('rounds to what is known', () => {
  expect([0, 1.2345, 12.345, 123.45, 12345].map(rounded)).toEqual(['0', '1.2', '12', '123', '12,300']);
});
