// Two runs compared: what counts as worse, what is only said, and what is refused.

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type BenchFile, parseBenchFile } from '../../lib/cli/bench/compare-file.ts';
import { compareFigure, compareRuns } from '../../lib/cli/bench/comparison.ts';
import { swiftkv } from './run.ts';

const machine = { cpu: 'x', isa: 'avx512', threads: 2, date: 'today' };

function throughput(rows: Record<string, Record<string, number[] | null>>, extra: object = {}): object {
  const environment = { command: 'bench throughput', ...machine, flags: { input: 640, json: 'out.json' }, ...extra };
  const results = Object.entries(rows).map(([variant, figures]) => ({
    model: 'm',
    variant,
    load: 'all at once',
    figures: Object.fromEntries(
      Object.entries(figures).map(([name, rounds]) => [
        name,
        rounds && { median: rounds.toSorted((a, b) => a - b)[Math.floor(rounds.length / 2)], rounds },
      ]),
    ),
  }));
  return { environment, results };
}

const parse = (body: object, file = 'a.json'): BenchFile => parseBenchFile(JSON.stringify(body), file);
const verdicts = (a: object, b: object, threshold = 0) =>
  compareRuns(parse(a), parse(b, 'b.json'), threshold).figures.map(({ figure, verdict }) => [figure, verdict]);

describe('a figure', () => {
  const quiet = { scatter: 0.01 };
  // Two standard deviations of the difference: 2 * sqrt(2) * 1%.
  const noise = 2 * Math.SQRT2 * 0.01;

  it('is worse beyond the noise and the threshold together, in the direction that is worse for it', () => {
    const at = (figure: string, b: number, threshold = 0) =>
      compareFigure('row', figure, { value: 100, ...quiet }, { value: b, ...quiet }, threshold).verdict;
    expect(at('ttftP50Ms', 100 * (1 + noise) - 0.1)).toBe('same');
    expect(at('ttftP50Ms', 100 * (1 + noise) + 0.1)).toBe('worse');
    expect(at('ttftP50Ms', 100 * (1 + noise) + 0.1, 0.05)).toBe('same');
    expect(at('ttftP50Ms', 100 * (1 + noise + 0.05) + 0.1, 0.05)).toBe('worse');
    expect(at('ttftP50Ms', 90)).toBe('better');
    expect(at('ms', 110)).toBe('worse');
    expect(at('combinedTokensPerSecond', 90)).toBe('worse');
    expect(at('combinedTokensPerSecond', 110)).toBe('better');
    expect(at('preemptions', 1000)).toBe('unjudged');
  });

  it('that was measured once has no known noise: the threshold alone counts', () => {
    const once = (b: number) => compareFigure('row', 'ms', { value: 100, scatter: null }, { value: b, ...quiet }, 0.05);
    expect(once(104)).toMatchObject({ noise: null, verdict: 'same' });
    expect(once(106)).toMatchObject({ noise: null, verdict: 'worse' });
  });

  it('that falls to nothing is infinitely worse, and nothing is like nothing', () => {
    const good = (a: number, b: number) =>
      compareFigure('row', 'goodShare', { value: a, scatter: 0 }, { value: b, scatter: 0 }, 0.05).verdict;
    expect([good(0.5, 0), good(0, 0.5), good(0, 0)]).toEqual(['worse', 'better', 'same']);
  });
});

describe('runs', () => {
  const before = throughput({ plain: { combinedTokensPerSecond: [99, 100, 101], ttftP50Ms: [50, 51, 52] } });

  it('like themselves are the same', () => {
    expect(verdicts(before, before)).toEqual([
      ['combinedTokensPerSecond', 'same'],
      ['ttftP50Ms', 'same'],
    ]);
  });

  it('differ beyond what their rounds scatter', () => {
    const slower = throughput({ plain: { combinedTokensPerSecond: [89, 90, 91], ttftP50Ms: [40, 41, 42] } });
    expect(verdicts(before, slower)).toEqual([
      ['combinedTokensPerSecond', 'worse'],
      ['ttftP50Ms', 'better'],
    ]);
    const wild = throughput({ plain: { combinedTokensPerSecond: [70, 90, 110], ttftP50Ms: [20, 41, 60] } });
    expect(verdicts(before, wild).map(([, verdict]) => verdict)).toEqual(['same', 'same']);
  });

  it('of other rows are compared where they can be, and say what is missing', () => {
    const other = throughput({
      plain: { combinedTokensPerSecond: [100], goodShare: [1], ttftP50Ms: null },
      'kv50%': { ttftP50Ms: [1] },
    });
    expect(compareRuns(parse(before), parse(other), 0)).toMatchObject({
      figures: [{ figure: 'combinedTokensPerSecond', noise: null }],
      onlyA: ['m plain all at once ttftP50Ms'],
      onlyB: ['m plain all at once goodShare', 'm kv50% all at once'],
    });
    expect(() => compareRuns(parse(before), parse(throughput({ 'kv50%': { ttftP50Ms: [1] } })), 0)).toThrow(
      /both have but received \[m plain all at once\] and \[m kv50% all at once\]/,
    );
  });

  it('on another machine or with other flags are compared, and that is said', () => {
    const other = throughput(
      { plain: { ttftP50Ms: [51] } },
      { cpu: 'y', date: 'tomorrow', flags: { input: 64, json: 'other.json' } },
    );
    expect(compareRuns(parse(before), parse(other), 0).differences).toEqual([
      { name: 'cpu', a: '"x"', b: '"y"' },
      { name: '--input', a: '640', b: '64' },
    ]);
  });

  it('of latency and kernels take their noise from the quartiles', () => {
    const ms = (median: number) => ({ median, low: median * 0.98, high: median * 1.02, samples: 9 });
    const latency = (median: number) => ({
      environment: { command: 'bench latency', ...machine },
      results: [
        { model: 'm', variant: 'plain', test: 'pp512', group: 1, ms: ms(median) },
        { model: 'm', variant: 'plain', test: 'pp512', group: 2, ms: ms(median * 2) },
      ],
    });
    const [figure] = compareRuns(parse(latency(10)), parse(latency(12)), 0).figures;
    expect(figure).toMatchObject({ row: 'm plain pp512', a: 10, b: 12, verdict: 'worse' });
    expect(figure!.noise).toBeCloseTo((2 * Math.SQRT2 * 0.04) / 1.349, 9);
    const kernels = {
      environment: { command: 'bench kernels', ...machine },
      results: [
        { shape: 's', op: 'linear', name: 'o', dtype: 'bf16', rows: 1, context: null, ms: ms(1) },
        { shape: 's', op: 'linear', name: 'o', dtype: 'bf16', rows: 512, context: null, ms: { ...ms(9), samples: 1 } },
      ],
    };
    expect(compareRuns(parse(kernels), parse(kernels), 0).figures).toMatchObject([
      { row: 's linear o bf16 rows 1', noise: expect.any(Number) },
      { row: 's linear o bf16 rows 512', noise: null },
    ]);
    expect(() => compareRuns(parse(kernels), parse(latency(1)), 0)).toThrow(/one benchmark but received bench kernels/);
  });
});

describe('a file that is not what a benchmark writes is refused by its place', () => {
  const row = { model: 'm', variant: 'plain', load: 'x' };
  const environment = { command: 'bench throughput' };
  const latency = { command: 'bench latency' };
  const cases: [string, unknown, RegExp][] = [
    ['no object', [], /a\.json: expected an object but received \[\]/],
    ['no environment', {}, /environment: expected an object but received nothing/],
    ['another benchmark', { environment: { command: 'bench quality' } }, /one of bench throughput.*"bench quality"/],
    ['a property of all objects', { environment: { command: 'toString' } }, /environment\.command/],
    ['no results', { environment }, /results: expected a list/],
    ['a result that is none', { environment, results: [3] }, /results\[0\]: expected an object but received 3/],
    ['no figures', { environment, results: [row] }, /results\[0\]\.figures: expected an object/],
    [
      'no rounds',
      { environment, results: [{ ...row, figures: { ttftP50Ms: { median: 1, rounds: [] } } }] },
      /ttftP50Ms\.rounds: expected a list of numbers/,
    ],
    [
      'a round that is no number',
      { environment, results: [{ ...row, figures: { ttftP50Ms: { median: 1, rounds: [1, null] } } }] },
      /ttftP50Ms\.rounds\[1\]: expected a number but received null/,
    ],
    [
      'no median',
      { environment, results: [{ ...row, figures: { ttftP50Ms: { rounds: [1] } } }] },
      /ttftP50Ms\.median: expected a number/,
    ],
    ['no milliseconds', { environment: latency, results: [{}] }, /results\[0\]\.ms: expected an object/],
    ['no quartile', { environment: latency, results: [{ ms: { median: 1, low: 1 } }] }, /ms\.high: expected a number/],
  ];
  it.each(cases)('%s', (_, body, message) => {
    expect(() => parse(body as object)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringMatching(message) }),
    );
  });

  it('text that is no JSON', () => {
    expect(() => parseBenchFile('tokens/s 5', 'a.txt')).toThrow(/a\.txt: expected JSON/);
  });
});

describe('bench compare', () => {
  let folder: string;
  const write = async (name: string, body: object) => {
    await writeFile(join(folder, name), JSON.stringify(body));
    return join(folder, name);
  };
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'swiftkv-compare-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  const run = (...args: string[]) => swiftkv(['bench', 'compare', ...args]);
  const rows = (rounds: number[]) => ({ plain: { combinedTokensPerSecond: rounds, preemptions: [1, 2, 3] } });

  it('exits with 3 when something is worse, and with 0 when nothing is', async () => {
    const a = await write('a.json', throughput(rows([99, 100, 101])));
    const b = await write('b.json', throughput(rows([79, 80, 81]), { cpu: 'y' }));
    const worse = await run(a, b);
    expect(worse.code).toBe(3);
    expect(worse.stdout).toMatch(/m plain all at once +combinedTokensPerSecond +100 +80 +0\.800 +±\d\.\d% +worse/);
    expect(worse.stdout).toMatch(/1 worse, 0 better, 0 within noise/);
    expect(worse.stdout).not.toMatch(/preemptions/);
    expect(worse.stderr).toBe('cpu differs: "x" and "y"\n');
    expect((await run(a, b, '--threshold', '30', '--all')).stdout).toMatch(/preemptions/);
    expect(await run(a, b, '--threshold', '30')).toMatchObject({ code: 0 });
    expect(await run(b, a)).toMatchObject({ code: 0 });
    const json = join(folder, 'out.json');
    expect(await run(a, b, '--json', json, '--markdown')).toMatchObject({ code: 3 });
    expect(JSON.parse(await readFile(json, 'utf8'))).toMatchObject({ figures: [{ verdict: 'worse' }, {}], onlyA: [] });
  });

  it('exits with 1 and a line where there is nothing to compare', async () => {
    const a = await write('c.json', throughput(rows([1])));
    expect(await run(a, '/no/such/file')).toMatchObject({ code: 1, stderr: expect.stringMatching(/ERR_IO/) });
    const none = await write('d.json', {});
    expect(await run(a, none)).toMatchObject({ code: 1, stderr: expect.stringMatching(/ERR_INVALID_ARGUMENT/) });
    expect(await run(a)).toMatchObject({ code: 2 });
  });
});
