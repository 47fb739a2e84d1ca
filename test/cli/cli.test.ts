import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GenerateResult } from '../../lib/engine/types.ts';
import { demo, swiftkv, unread } from './run.ts';

const letter = 'The code for Mara is 4821. The code for Owen is 990.';
const prompt = `${letter}\n\nQuestion: What is the code for Mara?\nAnswer:`;

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'swiftkv-cli-'));
});
afterAll(() => rm(folder, { recursive: true }));

describe('generate', () => {
  it('answers the same from --prompt, --prompt-file and stdin, as text and as JSON', async () => {
    const file = join(folder, 'prompt.txt');
    await writeFile(file, prompt);
    const flags = ['--max-tokens', '6', '--temperature', '0'];
    const [given, fromFile, piped, json] = await Promise.all([
      swiftkv(['generate', 'embedded:base', '--prompt', prompt, ...flags]),
      swiftkv(['generate', 'embedded:base', '--prompt-file', file, ...flags]),
      swiftkv(['generate', 'embedded:base', ...flags], prompt),
      swiftkv(['generate', 'embedded:base', '--prompt', prompt, '--json', ...flags]),
    ]);
    expect(given).toMatchObject({ code: 0, stderr: '' });
    expect(given.stdout).toContain('4821');
    expect(fromFile.stdout).toBe(given.stdout);
    expect(piped.stdout).toBe(given.stdout);
    const result = JSON.parse(json.stdout) as GenerateResult;
    expect(`${result.text.trimEnd()}\n`).toBe(`${given.stdout.trimEnd()}\n`);
    expect(result.usage.completionTokens).toBe(6);
    expect(result.tokenIds).toHaveLength(6);
  });

  it('renders --chat with the template and prints --stats to stderr only', async () => {
    const run = await swiftkv(['generate', 'embedded:swiftkv-50', '--chat', letter, '-n', '4', '--stats']);
    expect(run.code).toBe(0);
    expect(run.stderr).toMatch(/rows x layers: [\d,]+ run, [\d,]+ skipped \([1-9]/);
    expect(run.stdout).not.toContain('rows');
  });

  it('takes what shapes an answer: stops, biases, penalties, lengths', async () => {
    const answer = async (...more: string[]) => {
      const run = await swiftkv(['generate', 'embedded:base', '-p', prompt, '-n', '6', '-t', '0', '--json', ...more]);
      expect(run.stderr).toBe('');
      return JSON.parse(run.stdout) as GenerateResult;
    };
    const free = await answer();
    const [first, second, third] = free.tokenIds.map(String);
    const [byId, byText, with21, biased, forced, long, penalised] = await Promise.all([
      answer('--stop-token-ids', third!),
      answer('--stop', '99', '--stop', '21'),
      answer('--stop', '21', '--include-stop'),
      answer('--logit-bias', `${first}=-Infinity`, '--logit-bias', `${second}=-1`),
      answer('--logit-bias', `${third}=1000`),
      answer('--min-tokens', '6'),
      answer('--repetition-penalty', '2', '--presence-penalty', '-1', '--frequency-penalty', '1.5'),
    ]);
    expect(byId).toMatchObject({ finishReason: 'stop', tokenIds: free.tokenIds.slice(0, 3) });
    expect([byText!.text, with21!.text]).toEqual([' 48', ' 4821']);
    expect(biased!.tokenIds).not.toContain(Number(first));
    expect(forced!.tokenIds[0]).toBe(Number(third));
    expect(long!.tokenIds).toHaveLength(6);
    expect(penalised!.tokenIds).not.toEqual(free.tokenIds);
  });

  it('reports log-probabilities with --json, and only there', async () => {
    const flags = ['generate', 'embedded:base', '-p', prompt, '-n', '2', '-t', '0', '--logprobs', '3'];
    const run = await swiftkv([...flags, '--json', '--prompt-logprobs', '0']);
    const { tokenIds, logprobs, promptLogprobs, usage } = JSON.parse(run.stdout) as GenerateResult;
    expect(logprobs!.map(({ tokenId, rank, top }) => [tokenId, rank, top.length])).toEqual([
      [tokenIds[0], 1, 3],
      [tokenIds[1], 1, 3],
    ]);
    expect(promptLogprobs).toHaveLength(usage.promptTokens);
    expect((await swiftkv(flags)).stderr).toMatch(/Expected --json beside --logprobs/);
  });

  it('prints several answers under their numbers, and all of them with --json', async () => {
    const flags = ['generate', 'embedded:base', '-p', prompt, '-n', '4', '-t', '1', '--seed', '3', '--answers', '3'];
    const [plain, json] = await Promise.all([swiftkv(flags), swiftkv([...flags, '--json'])]);
    const results = JSON.parse(json.stdout) as GenerateResult[];
    expect(results.map(({ index, tokenIds }) => [index, tokenIds.length])).toEqual([0, 1, 2].map((i) => [i, 4]));
    expect(plain.stdout.trimEnd()).toBe(
      results
        .map(({ index, text }) => `[${index}] ${text}`)
        .join('\n')
        .trimEnd(),
    );
    expect((await swiftkv([...flags.slice(0, -1), '65'])).code).toBe(2);
  });

  it('takes token ids', async () => {
    const run = await swiftkv([
      'generate',
      'embedded:base',
      '--token-ids',
      '0,306,1708',
      '-n',
      '3',
      '--json',
      '-t',
      '0',
    ]);
    expect(run.code).toBe(0);
    expect((JSON.parse(run.stdout) as GenerateResult).usage.promptTokens).toBe(3);
  });
});

describe('info', () => {
  it('shows every choice that was made', async () => {
    const run = await swiftkv([
      'info',
      'embedded:swiftkv-50-g4',
      '--isa',
      'scalar',
      '--threads',
      '1',
      '--kv-dtype',
      'fp8',
    ]);
    expect(run.code).toBe(0);
    expect(run.stdout).toMatch(/kernels scalar, 1 thread/);
    expect(run.stdout).toMatch(/fp8 \(scales: dynamic\), 5 caches, 1,440 bytes per token/);
  });

  it('prints JSON', async () => {
    const run = await swiftkv(['info', 'embedded:base', '--json']);
    const { machine, model, memory } = JSON.parse(run.stdout);
    expect(machine.cpu.levels).toContain('scalar');
    expect(model.config.numLayers).toBe(8);
    expect(memory.engine).toMatchObject({ weights: model.bytes.weights, kvPool: model.bytes.kvPool });
    expect(memory.engine.total).toBe(memory.environment.total);
  });
});

describe('export', () => {
  it('writes a folder that gives the same answer as the variant', async () => {
    const out = join(folder, 'whole');
    expect(await swiftkv(['export', 'embedded:swiftkv-50', out])).toMatchObject({ code: 0 });
    expect(JSON.parse(await readFile(join(out, 'config.json'), 'utf8'))).not.toHaveProperty('swiftkv_base');
    const flags = ['--prompt', prompt, '-n', '6', '-t', '0'];
    const [variant, whole] = await Promise.all([
      swiftkv(['generate', 'embedded:swiftkv-50', ...flags]),
      swiftkv(['generate', out, ...flags]),
    ]);
    expect(whole).toEqual(variant);
  });
});

describe('errors are one line, without a stack, and say what to do', () => {
  const cases: [string, string[], number, RegExp][] = [
    ['a model that is not there', ['generate', '/no/such/model', '-p', 'x'], 1, /ERR_MODEL_NOT_FOUND/],
    ['an embedded model that is not there', ['info', 'embedded:nothing'], 1, /Expected one of base, swiftkv-50/],
    [
      'a token id outside the vocabulary',
      ['generate', 'embedded:base', '--token-ids', '999999'],
      1,
      /ERR_INVALID_ARGUMENT/,
    ],
    ['two prompts', ['generate', 'embedded:base', '-p', 'x', '-c', 'y'], 1, /Expected one of --prompt/],
    ['an ISA level that does not exist', ['info', 'embedded:base', '--isa', 'avx99'], 1, /avx99/],
    ['a cache too small for one block', ['info', 'embedded:base', '--kv-cache-bytes', '10'], 1, /ERR_/],
    ['a prompt file that is not there', ['generate', 'embedded:base', '-f', '/no/such/file'], 1, /ERR_IO/],
    ['an unknown option', ['generate', 'embedded:base', '--frobnicate'], 2, /unknown option '--frobnicate'/],
    ['an unknown command', ['frobnicate'], 2, /unknown command/],
    [
      'a wrong bias',
      ['generate', 'embedded:base', '-p', 'x', '--logit-bias', '13'],
      2,
      /Expected a token id, =, and a/,
    ],
    ['a wrong number', ['generate', 'embedded:base', '-p', 'x', '-n', '-3'], 2, /Expected an integer >= 1/],
  ];

  it.each(cases)('%s', async (_, args, code, message) => {
    const run = await swiftkv(args);
    expect(run.stderr).toMatch(message);
    expect(run.stderr).not.toMatch(/\n\s+at /);
    expect(run.code).toBe(code);
    expect(run.stdout).toBe('');
  });
});

it('prints help with exit code 0', async () => {
  for (const args of [
    ['--help'],
    ['generate', '--help'],
    ['info', '--help'],
    ['chat', '--help'],
    ['eval', '--help'],
    ['export', '--help'],
    ['--version'],
  ]) {
    const run = await swiftkv(args);
    expect(run).toMatchObject({ code: 0, stderr: '' });
    expect(run.stdout.length).toBeGreaterThan(4);
  }
});

it('ends without a word when nobody reads its output', async () => {
  expect(await unread('main.js', ['--help'])).toEqual({ code: 141, stderr: '' });
  expect(await unread('demo.js', [])).toEqual({ code: 141, stderr: '' });
});

describe('the demonstration of npm start', () => {
  it('makes the same document from the same seed, answers from the base, and counts what SwiftKV skips', async () => {
    const [first, second] = await Promise.all([demo(['--seed', '5']), demo(['--seed', '5'])]);
    expect(first).toMatchObject({ code: 0, stderr: '' });
    const timesOut = (text: string) => text.split('rows x layers run')[0]!.split('\n').slice(0, -1).join('\n');
    expect(timesOut(first.stdout)).toBe(timesOut(second.stdout));
    const rows = first.stdout.split('\n').filter((line) => /\(\d+%\)/.test(line));
    expect(rows).toHaveLength(4);
    expect(rows[0]).toMatch(/^base +[34] of 4 .* 0 \(0%\) +4,096$/);
    expect(rows[1]).toMatch(/^SwiftKV 50% .* \((49|50)%\) +4,096$/);
    expect(rows[2]).toMatch(/fp8 cache .* \((49|50)%\) +2,304$/);
    expect(rows[3]).toMatch(/AcrossKV .* \((49|50)%\) +2,560$/);
  });

  it("takes the user's own document and question", async () => {
    const file = join(folder, 'letter.txt');
    await writeFile(file, letter);
    const run = await demo(['--document', file, '--question', 'What is the code for Mara?']);
    expect(run.code).toBe(0);
    expect(run.stdout).toMatch(/base +4821/);
  });
});
