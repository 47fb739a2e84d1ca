// The commands as a user runs them, with so little time that nothing can be said about speed.

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { benchedTraining, kernelGroups } from '../../lib/cli/bench/ops/index.ts';
import { opSpecs } from '../../lib/kernels/op-specs.ts';
import { trainOpSpecs } from '../../lib/kernels/train-op-specs.ts';
import { swiftkv } from './run.ts';

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'swiftkv-bench-'));
});
afterAll(() => rm(folder, { recursive: true }));

const quick = ['--time', '1', '--rotate', '100KiB', '--threads', '1'];

it('every op has its measurements', () => {
  expect(Object.keys(kernelGroups).sort()).toEqual(
    Object.keys(opSpecs)
      .filter((op) => op !== 'attention' && (!(op in trainOpSpecs) || benchedTraining.some((name) => name === op)))
      .sort(),
  );
});

describe('bench kernels', () => {
  it('measures every op of a small shape and writes JSON, each result with its environment', async () => {
    const file = join(folder, 'kernels.json');
    const shape = ['--shapes', 'embedded', '--rows', '1,17', '--contexts', '40'];
    const dtypes = ['--weight-dtype', 'f32,bf16,fp8,int8,int4'];
    const run = await swiftkv(['bench', 'kernels', ...shape, ...dtypes, ...quick, '--json', file]);
    expect(run.code).toBe(0);
    const { results, environment, callMs } = JSON.parse(await readFile(file, 'utf8'));
    expect(new Set(results.map((r: { op: string }) => r.op))).toEqual(new Set(Object.keys(kernelGroups)));
    expect(callMs).toBeGreaterThan(0);
    expect(environment).toMatchObject({ command: 'bench kernels', threads: 1, node: process.version });
    expect(environment.flags).toMatchObject({ rows: [1, 17], shapes: ['embedded'] });
    for (const r of results) {
      expect(r.environment).toEqual(environment);
      expect(r.ms.median).toBeGreaterThan(0);
      expect(r.ms.samples).toBeGreaterThanOrEqual(1);
      expect(r.gbps).toBeGreaterThan(0);
      expect(r.ofLimit).toBeGreaterThan(0);
      expect(r.flops > 0).toBe(r.gflops !== null);
    }
    expect(run.stdout).toMatch(/swiftkv_project +int4 +17/);
    expect(run.stdout).toMatch(/attention_decode +fp8 +1 +40/);
    expect(run.stdout).toMatch(/read \d/);
  });

  it('prints nothing but JSON to stdout with --json -', async () => {
    const run = await swiftkv([
      ...['bench', 'kernels', '--filter', 'rms,silu', '--shapes', 'embedded', '--isa', 'scalar'],
      ...['--weight-dtype', 'f32', '--json', '-', ...quick],
    ]);
    const { results, environment } = JSON.parse(run.stdout);
    expect(environment.isa).toBe('scalar');
    expect(results.map((r: { op: string; rows: number }) => [r.op, r.rows])).toEqual([
      ['rms_norm', 1],
      ['rms_norm', 512],
      ['silu_mul', 1],
      ['silu_mul', 512],
    ]);
  });

  it('prints markdown', async () => {
    const run = await swiftkv([
      'bench',
      'kernels',
      '--filter',
      'copy_rows',
      '--shapes',
      'embedded',
      '--markdown',
      ...quick,
    ]);
    expect(run.stdout.split('\n').slice(0, 3)).toEqual([
      expect.stringMatching(/^\| op \| dtype \|/),
      expect.stringMatching(/^\| --- \| --- \| ---: \|/),
      expect.stringMatching(/^\| copy_rows \| f32 \|/),
    ]);
  });
});

describe('bench latency', () => {
  it('compares variants over a grid and writes JSON, each result with its environment', async () => {
    const file = join(folder, 'latency.json');
    const run = await swiftkv([
      ...[
        'bench',
        'latency',
        'random:embedded',
        '--variants',
        'plain,kv50%/4,plain+cache=fp8+weights=int8',
        '--pp',
        '5,40',
      ],
      ...['--tg', '3', '--depth', '0,100', '--repeat', '2', '--fit', '1MiB', '--rotate', '100KiB', '--threads', '1'],
      ...['--json', file],
    ]);
    expect(run.code).toBe(0);
    const { results, environment, leftOut } = JSON.parse(await readFile(file, 'utf8'));
    expect(leftOut).toEqual([]);
    expect(environment).toMatchObject({ command: 'bench latency', threads: 1 });
    expect(results).toHaveLength(3 * 6);
    const cell = (test: string, variant: string) =>
      results.find((r: { test: string; variant: string }) => r.test === test && r.variant === variant);
    for (const r of results) {
      expect(r.environment).toEqual(environment);
      expect(r.ms.samples).toBe(2);
      expect(r.tokensPerSecond).toBeGreaterThan(0);
      expect(r.ofLimit).toBeGreaterThan(0);
      if (r.variant === 'plain') expect(r.ratio).toBe(1);
    }
    // 8 layers, 4 of which prompt tokens skip, all but the last one.
    expect(cell('pp40 @ d100', 'kv50%/4')).toMatchObject({ rowLayersRun: 40 * 4 + 4, rowLayersSkipped: 39 * 4 });
    expect(cell('pp40', 'plain')).toMatchObject({ rowLayersRun: 320, rowLayersSkipped: 0, flopRatio: 1 });
    expect(cell('pp40', 'kv50%/4').flopRatio).toBeGreaterThan(1);
    expect(cell('tg3', 'kv50%/4')).toMatchObject({ rowLayersSkipped: 0, flopRatio: null });
    // 8 caches of 4 heads x 32 x 2 sides in bf16; 5 with AcrossKV; fp8 with its scales.
    expect(cell('tg3', 'plain')).toMatchObject({ kvBytesPerToken: 4096, fitTokens: 256 });
    expect(cell('tg3', 'kv50%/4')).toMatchObject({ kvBytesPerToken: 2560, fitTokens: 400 });
    expect(cell('tg3', 'plain+cache=fp8+weights=int8')).toMatchObject({
      kvBytesPerToken: 8 * 8 * 36,
      kvCacheDtype: 'fp8',
      weightDtypes: ['int8'],
    });
  });

  it('measures in groups where memory is short, and says what did not fit at all', async () => {
    const grid = ['--pp', '4', '--tg', '1', '--depth', '0', '--repeat', '1', '--rotate', '100KiB', '--json', '-'];
    const variants = ['--variants', 'plain,kv50%,kv25%'];
    const measure = async (...flags: string[]) => {
      const run = await swiftkv(['bench', 'latency', 'random:embedded', ...grid, ...flags]);
      return JSON.parse(run.stdout);
    };
    const { totalBytes } = (await measure('--variants', 'plain')).results[0];
    const { results, leftOut } = await measure(...variants, '--memory', String(Math.floor(totalBytes * 2.5)));
    expect(leftOut).toEqual([]);
    expect(results.filter((r: { test: string }) => r.test === 'pp4').map((r: object) => pick(r))).toEqual([
      ['plain', 1],
      ['kv50%', 1],
      ['plain', 2],
      ['kv25%', 2],
    ]);
    const tight = await measure(...variants, '--memory', String(totalBytes));
    expect(tight.leftOut.map((l: { variant: string }) => l.variant)).toEqual(['kv50%', 'kv25%']);
  });

  it('compares models with each other', async () => {
    const models = ['embedded:base', 'embedded:swiftkv-50'];
    const grid = ['--pp', '8', '--tg', '1', '--depth', '0', '--repeat', '1', '--variants', 'plain', '--rotate', '1KiB'];
    const run = await swiftkv(['bench', 'latency', ...models, ...grid]);
    expect(run.code).toBe(0);
    expect(run.stdout).toMatch(/embedded:base +pp8 +plain .* 0 \(0\.0%\)/);
    expect(run.stdout).toMatch(/embedded:swiftkv-50 +pp8 +plain .* 28 \(43\.8%\)/);
  });
});

const pick = (r: object) => {
  const { variant, group } = r as { variant: string; group: number };
  return [variant, group];
};

describe('bench throughput', () => {
  const small = ['--requests', '5', '--input', '24', '--output', '6', '--rounds', '2'];

  it('sends requests at loads to variants in turns, counts exactly, and can be compared with itself', async () => {
    const file = join(folder, 'throughput.json');
    const run = await swiftkv([
      ...['bench', 'throughput', 'random:embedded', '--variants', 'plain,kv50%/4+cache=fp8', ...small],
      ...['--offline', '--concurrency', '1', '--rate-fraction', '0.8', '--objective', 'e2e=60000', '--json', file],
    ]);
    expect(run).toMatchObject({ code: 0 });
    const { results, environment, saturation, leftOut } = JSON.parse(await readFile(file, 'utf8'));
    expect(leftOut).toEqual([]);
    expect(environment).toMatchObject({
      command: 'bench throughput',
      flags: { requests: 5, prefixCaching: false, objective: { e2e: 60_000 } },
    });
    expect(results.map((r: { load: string; variant: string }) => [r.load, r.variant])).toEqual(
      ['all at once', '1 at a time', '0.8 of saturation'].flatMap((load) => [
        [load, 'plain'],
        [load, 'kv50%/4+cache=fp8'],
      ]),
    );
    for (const r of results) {
      const { figures, promptTokens, completionTokens } = r;
      expect(r).toMatchObject({ requests: 5, fitSequences: expect.any(Number), environment });
      const tokens = figures.combinedTokensPerSecond.rounds.map(
        (rate: number, i: number) => rate * figures.seconds.rounds[i],
      );
      for (const n of tokens) expect(n).toBeCloseTo(promptTokens + completionTokens, 6);
      expect(figures.goodShare).toMatchObject({ median: 1, rounds: [1, 1] });
      expect(figures.prefixHitTokens.median).toBe(0);
      expect(figures.ttftP99Ms.median).toBeGreaterThanOrEqual(figures.ttftP50Ms.median);
      expect(figures.e2eP50Ms.median).toBeGreaterThan(figures.ttftP50Ms.median);
      if (r.variant === 'plain') expect(r.ratio).toEqual({ median: 1, min: 1, max: 1 });
      expect(r.rate).toBe(r.kind === 'fraction' ? 0.8 * saturation : null);
      if (r.kind === 'fraction') expect(r.flopRatio).toBeNull();
      else expect(r.flopRatio > 1).toBe(r.variant !== 'plain');
    }
    expect(saturation).toBe(results[0].figures.requestsPerSecond.median);
    const same = await swiftkv(['bench', 'compare', file, file]);
    expect(same).toMatchObject({ code: 0, stdout: expect.stringMatching(/0 worse, 0 better/) });
  });

  it('finds shared prefixes, begins every pass without them, and writes a trace', async () => {
    const trace = join(folder, 'trace.json');
    const run = await swiftkv([
      ...['bench', 'throughput', 'random:embedded', '--variants', 'plain', '--concurrency', '1', ...small],
      ...['--workload', 'prefix', '--prefix-length', '64', '--prefix-count', '2', '--json', '-', '--trace', trace],
    ]);
    const [result] = JSON.parse(run.stdout).results;
    // Of five requests of two families three find the four blocks of their prefix.
    expect(result.figures.prefixHitTokens.rounds).toEqual([3 * 64, 3 * 64]);
    expect(result).toMatchObject({ flopRatio: null, ofPeak: null });
    expect(result.figures.rowsPerStep.median).toBeGreaterThan(1);
    expect(JSON.stringify(JSON.parse(await readFile(trace, 'utf8')))).toMatch(/"ph"/);
  });

  it('reads requests from a file, texts of a model and token ids', async () => {
    const file = join(folder, 'requests.jsonl');
    await writeFile(file, '{"prompt":"Once upon a time","maxTokens":3}\n{"tokenIds":[5,6,7],"maxTokens":2}\n');
    const flags = ['--workload', 'jsonl', '--file', file, '--rounds', '1', '--json', '-'];
    const run = await swiftkv(['bench', 'throughput', 'embedded:swiftkv-50', ...flags]);
    const [result] = JSON.parse(run.stdout).results;
    expect(result).toMatchObject({ variant: 'plain', requests: 2, completionTokens: 5 });
    const random = await swiftkv(['bench', 'throughput', 'random:embedded', ...flags]);
    expect(random).toMatchObject({ code: 1, stderr: expect.stringMatching(/tokenIds.*ERR_NO_TOKENIZER/) });
  });
});

describe('errors are one line and say what was expected', () => {
  const cases: [string, string[], number, RegExp][] = [
    ['an op that does not exist', ['kernels', '--filter', 'conv'], 1, /beginnings of embed, .* received conv/],
    ['a shape that does not exist', ['kernels', '--shapes', 'gpt'], 2, /llama-3\.2-1b.* received gpt/],
    [
      'a weight dtype that does not exist',
      ['kernels', '--weight-dtype', 'int3'],
      2,
      /f32, bf16, fp8, int8, int4.* received int3/,
    ],
    ['no rows', ['kernels', '--rows', '0'], 2, /integers >= 1/],
    ['a time that is no number', ['kernels', '--time', 'long'], 2, /integer >= 1/],
    ['an ISA level that does not exist', ['kernels', '--isa', 'avx99'], 1, /avx99/],
    ['too many threads', ['kernels', '--threads', '5000'], 1, /1 to 1024 for threads/],
    ['a variant that does not exist', ['latency', '--variants', 'kv50'], 1, /plain or kvN%.* received kv50/],
    ['layers of a model that has its own', ['latency', 'embedded:base', '--variants', 'kv50%'], 1, /layers are given/],
    ['a model that is not there', ['latency', '/no/such/model'], 1, /ERR_MODEL_NOT_FOUND/],
    ['more context than the model has', ['latency', 'embedded:base', '--depth', '2048'], 1, /maxModelLen|2048/],
    ['a depth below 0', ['latency', '--depth', '-1'], 2, /integers >= 0/],
    ['no file of requests', ['throughput', '--workload', 'jsonl'], 1, /--file FILE.*ERR_INVALID_ARGUMENT/],
    ['a rate of nothing', ['throughput', '--rate', '0'], 2, /numbers above 0/],
    ['an objective without a name', ['throughput', '--objective', '5'], 2, /ttft=MS/],
    ['a spread that leaves nothing', ['throughput', '--spread', '1'], 2, /less than 1/],
    [
      'a cache without room for one request',
      ['throughput', 'random:embedded', '--variants', 'plain', '--kv-cache-bytes', '1MiB'],
      1,
      /ERR_CACHE_TOO_SMALL/,
    ],
    ['a benchmark that does not exist', ['frobnicate'], 2, /unknown command/],
    [
      'a file that cannot be written',
      ['kernels', '--filter', 'copy_rows', '--shapes', 'embedded', ...quick, '--json', '/no/such/folder/x'],
      1,
      /ERR_IO/,
    ],
  ];
  it.each(cases)('%s', async (_, args, code, message) => {
    const run = await swiftkv(['bench', ...args]);
    expect(run.stderr).toMatch(message);
    expect(run.stderr).not.toMatch(/\n\s+at /);
    expect(run.code).toBe(code);
  });
});

it('prints help with examples', async () => {
  for (const args of [
    ['bench', '--help'],
    ['bench', 'kernels', '--help'],
    ['bench', 'latency', '--help'],
    ['bench', 'throughput', '--help'],
    ['bench', 'compare', '--help'],
  ]) {
    const run = await swiftkv(args);
    expect(run).toMatchObject({ code: 0, stderr: '' });
    expect(run.stdout).toMatch(/Examples:\n {2}swiftkv bench/);
  }
});
