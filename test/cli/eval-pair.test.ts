// Runs compared by the JSON they wrote: what is paired, what is said of it, and what is refused. No model runs.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatJson } from '../../lib/cli/eval/json.ts';
import { pairRows } from '../../lib/cli/eval/pair.ts';
import { pairFiles, parseEvalFile } from '../../lib/cli/eval/pair-files.ts';
import { perplexityChange, scoreInterval } from '../../lib/eval/paired.ts';
import { swiftkv } from './run.ts';

type Fields = Record<string, unknown>;

/** Four items, of which the letters say what is right: `+` or `-`. */
function exact(right: string, extra: Fields = {}): Fields {
  const perItem = [...right].map((sign, i) => ({
    id: `item-${i}`,
    group: i < 2 ? '150' : '1000',
    correct: sign === '+',
    text: sign === '+' ? '1734' : '17',
    ...extra,
  }));
  return { exact: { perItem } };
}

function perplexity(nats: readonly number[], tokenDigest = 'one'): Fields {
  const perWindow = nats.map((value, i) => ({ document: 0, start: i * 64, tokens: 63, nats: value }));
  return { perplexity: { tokenDigest, perWindow } };
}

function agreement(shares: readonly number[], withModel = 'c'): Fields {
  const perWindow = shares.map((share) => ({ tokens: 63, nll: 3, agreement: share, kl: 1 - share }));
  return { agreement: { with: withModel, perWindow } };
}

const choices = (plain: boolean, perByte: boolean): Fields => ({
  choices: { perItem: [{ id: 'line 1', plain, perToken: true, perByte, logLikelihoods: [-1, -2] }] },
});

const row = (model: string, ...measures: Fields[]): Fields => Object.assign({ model, kvCache: 'bf16' }, ...measures);

const settings = { window: 64, separator: 'x', by: 'length', format: 'qa', every: 3 };
const data = { exact: 'items', perplexity: 'text', choices: 'quiz' };
const run = (results: unknown[], other: Fields = {}) => ({ swiftkv: '1', settings, data, results, ...other });

const parse = (body: unknown, file = 'before.json') => parseEvalFile(JSON.stringify(body), file);
const pair = (before: unknown, after: unknown) => pairFiles([parse(before), parse(after, 'after.json')]);

describe('rows', () => {
  const before = row('a', exact('++-+'), perplexity([200, 210, 190]), choices(true, false));
  const after = row('b', exact('+-+-'), perplexity([203, 212, 196]), choices(false, true));

  it('of several files are compared with the first of the first, item by item and window by window', () => {
    const { rows, left } = pair(run([before]), run([after, before]));
    const paired = pairRows(rows);
    expect(left).toEqual([]);
    expect(paired.against).toEqual({ file: 'before.json', model: 'a', kvCache: 'bf16' });
    expect(paired.rows.map(({ file, model }) => [file, model])).toEqual([
      ['after.json', 'b'],
      ['after.json', 'a'],
    ]);
    const [changed, same] = paired.rows;
    expect(changed!.exact).toEqual({
      ...{ ...scoreInterval(1, 2, 4), items: 4, gained: 1, lost: 2 },
      groups: [
        { group: '150', ...scoreInterval(0, 1, 2), items: 2, gained: 0, lost: 1 },
        { group: '1000', ...scoreInterval(1, 1, 2), items: 2, gained: 1, lost: 1 },
      ],
    });
    expect(changed!.perplexity!.change).toEqual(perplexityChange([200, 210, 190], [203, 212, 196], [63, 63, 63]));
    expect(changed!.choices).toMatchObject({
      plain: { value: -1, gained: 0, lost: 1 },
      perToken: { value: 0, gained: 0, lost: 0 },
      perByte: { value: 1, gained: 1, lost: 0 },
    });
    expect(same).toMatchObject({
      exact: {
        value: 0,
        low: 0,
        high: 0,
        groups: [
          { low: 0, high: 0 },
          { low: 0, high: 0 },
        ],
      },
      perplexity: { change: { value: 0, low: 0, high: 0 } },
      choices: { plain: { value: 0, low: 0, high: 0 } },
    });
  });

  it('that are right on the same items are one model only where all else is the same too', () => {
    const [other] = pairRows(
      pair(run([before]), run([row('b', exact('++-+'), perplexity([200, 210, 190]))])).rows,
    ).rows;
    expect(other).toMatchObject({ exact: scoreInterval(0, 0, 4), perplexity: { change: { low: 0, high: 0 } } });
    const otherText = row('a', exact('----', { text: '18' }));
    const [sameName] = pairRows(pair(run([row('a', exact('----'))]), run([otherText])).rows).rows;
    expect(sameName!.exact).toMatchObject(scoreInterval(0, 0, 4));
  });

  it('of other tokens have no pairs of windows, but of items', () => {
    const other = row('b', exact('++++'), perplexity([190, 220], 'two'), agreement([0.5, 0.25], 'c'));
    const first = row('a', exact('++-+'), perplexity([200, 210]), agreement([1, 1], 'c'));
    const [paired] = pairRows(pair(run([first]), run([other])).rows).rows;
    expect(paired).toMatchObject({ perplexity: null, agreement: null, exact: { gained: 1 } });
  });

  it('have differences of agreement in points and of KL in nats', () => {
    const measured = (...shares: number[]) => run([row('a', perplexity([200, 210, 190]), agreement(shares))]);
    const [paired] = pairRows(pair(measured(0.9, 0.8, 0.7), measured(0.8, 0.7, 0.6)).rows).rows;
    expect(paired!.agreement!.agreement.value).toBeCloseTo(-0.1, 12);
    expect(paired!.agreement!.kl.value).toBeCloseTo(0.1, 12);
    expect(paired!.agreement!.kl.high - 0.1).toBeLessThan(1e-12);
  });

  it('are compared by the measures that all files have', () => {
    const { rows, left } = pair(run([before]), run([row('b', exact('++++'))]));
    expect(left).toEqual(['perplexity', 'choices']);
    expect(Object.keys(pairRows(rows).rows[0]!)).toEqual(['file', 'model', 'kvCache', 'exact']);
  });
});

describe('runs of other things are refused:', () => {
  const one = run([row('a', exact('++-+'))]);
  const words = run([row('a', perplexity([200, 210]))]);
  const cases: [string, unknown, unknown, RegExp][] = [
    [
      'other items',
      one,
      run(one.results, { data: { exact: 'else' } }),
      /--exact is of other ones in before.json and a/,
    ],
    ['other groups', one, run(one.results, { settings: { ...settings, by: 'family' } }), /--by is "length" in before/],
    [
      'every third and every one',
      one,
      run(one.results, { settings: { by: 'length' } }),
      /--every is 3 .* and 1 in after/,
    ],
    ['other windows', words, run(words.results, { settings: { ...settings, window: 8 } }), /--window is 64 .* and 8/],
    ['another stride', words, run(words.results, { settings: { ...settings, stride: 8 } }), /--stride is 64 .* and 8/],
    [
      'another text',
      words,
      run(words.results, { data: { perplexity: 'else' } }),
      /Expected runs of the same items but --perplexity/,
    ],
    [
      'another name',
      one,
      run([row('b', exact('++-+', { id: 'x' }))]),
      /results\[0\]\.exact: expected item item-0 .*"x"/,
    ],
    ['fewer items', one, run([row('b', exact('++-'))]), /expected item item-3 as in before.json but received nothing/],
    ['more items', one, run([row('b', exact('++-++'))]), /expected 4 items as in before.json but received 5/],
    ['no measure in common', one, words, /before.json \(exact\) and after.json \(perplexity\)/],
  ];
  it.each(cases)('%s', (_, before, after, message) => {
    expect(() => pair(before, after)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringMatching(message) }),
    );
  });

  it('but a stride of the window is the default, and how a model runs may differ', () => {
    const other = run(words.results, { settings: { ...settings, stride: 64, threads: 9, dtype: 'f32' } });
    expect(pair(words, other).rows).toHaveLength(2);
  });
});

describe('a file that no evaluation wrote is refused by its place:', () => {
  const withRow = (...measures: Fields[]) => run([row('a', ...measures)]);
  const cases: [string, unknown, RegExp][] = [
    ['a list', [], /^x.json: expected an object but received \[\]/],
    ['no results', { settings, data }, /results: expected a list of rows but received nothing/],
    ['no settings', { data, results: [row('a', exact('+'))] }, /settings: expected an object but received nothing/],
    ['of a version without items', { settings, results: [row('a', exact('+'))] }, /data: expected an object/],
    ['a row without a model', run([{ kvCache: 'bf16' }]), /results\[0\]\.model: expected a string/],
    ['no items', withRow({ exact: { yes: 1 } }), /results\[0\]\.exact\.perItem: expected a list but received nothing/],
    ['an item without a name', withRow(exact('+', { id: 3 })), /perItem\[0\]\.id: expected a string but received 3/],
    ['no verdict', withRow(exact('+', { correct: 1 })), /perItem\[0\]\.correct: expected a boolean but received 1/],
    ['no number', withRow(perplexity([Number.NaN])), /perWindow\[0\]\.nats: expected a number but received null/],
    [
      'no digest',
      withRow(perplexity([1], undefined), { perplexity: { perWindow: [{ tokens: 1, nats: 1 }] } }),
      /tokenDigest/,
    ],
    ['agreement alone', withRow(agreement([1])), /agreement\.perWindow: expected the 0 windows of the perplexity/],
    ['rows of other measures', run([row('a', exact('+')), row('b')]), /results\[1\]: expected the measures exact/],
  ];
  it.each(cases)('%s', (_, body, message) => {
    expect(() => parse(body, 'x.json')).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringMatching(message) }),
    );
  });

  it('no JSON', () => expect(() => parseEvalFile('{', 'x.json')).toThrow(/^x.json: not JSON/));
});

describe('eval --pair', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'swiftkv-eval-pair-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  const write = async (name: string, body: unknown) => {
    await writeFile(join(folder, name), JSON.stringify(body));
    return join(folder, name);
  };

  it('prints a table of the differences, markdown and JSON', async () => {
    const before = await write('before.json', run([row('a', exact('++-+'), perplexity([200, 210, 190]))]));
    const after = await write('after.json', run([row('b', exact('+-+-'))]));
    const table = await swiftkv(['eval', '--pair', before, after]);
    expect(table).toMatchObject({ code: 0, stderr: 'not in every file, so not compared: perplexity\n' });
    expect(table.stdout).toContain(`against a (bf16) of ${before}: difference on the same items and windows`);
    expect(table.stdout).toMatch(/^file +model +KV cache +exact, points$/m);
    expect(table.stdout).toMatch(/after\.json +b +bf16 +-25\.0 \[-\d+\.\d, \+\d+\.\d\]$/m);
    const markdown = await swiftkv(['eval', '--pair', before, after, '--markdown']);
    expect(markdown.stdout).toMatch(/^\| file \| model \| KV cache \| exact, points \|$/m);
    const { files, paired } = JSON.parse((await swiftkv(['eval', '--pair', before, after, '--json'])).stdout);
    expect(files).toEqual([before, after]);
    expect(paired.rows).toMatchObject([{ file: after, model: 'b', exact: { gained: 1, lost: 2, items: 4 } }]);
  });

  it('refuses one file, files that are not there, and options of a measurement', async () => {
    const file = await write('one.json', run([row('a', exact('++'))]));
    expect(await swiftkv(['eval', '--pair', file])).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/two or more files of --json after --pair/),
    });
    expect(await swiftkv(['eval', '--pair', file, '/no/such/file'])).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/ERR_IO/),
    });
    for (const extra of [
      ['--exact', 'embedded:recall'],
      ['--every', '2'],
      ['--kv-dtype', 'fp8'],
      ['--threads', '1'],
    ]) {
      expect(await swiftkv(['eval', '--pair', file, file, ...extra])).toMatchObject({
        code: 2,
        stderr: expect.stringMatching(/'--pair' cannot be used with/),
      });
    }
  });
});

it('JSON has what fits on a line as one, and says the same', () => {
  const value = {
    a: [1, 2],
    none: undefined,
    list: Array.from({ length: 9 }, (_, id) => ({ id, text: 'x'.repeat(20) })),
  };
  const text = formatJson(value);
  expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)));
  expect(text.split('\n').slice(0, 4)).toEqual([
    '{',
    '  "a": [1,2],',
    '  "list": [',
    '    {"id":0,"text":"xxxxxxxxxxxxxxxxxxxx"},',
  ]);
});
