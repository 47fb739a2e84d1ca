import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { swiftkv } from './run.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'swiftkv-eval-cli-'));
});
afterAll(() => rm(folder, { recursive: true }));

describe('eval', () => {
  it('gives every measure of models and caches side by side, as JSON', async () => {
    const quiz = join(folder, 'quiz.jsonl');
    const item = (code: string) =>
      JSON.stringify({
        question: `The code for Mara is ${code}. What is it?`,
        choices: ['1734', '9926'],
        answer: code,
      });
    await writeFile(quiz, `${item('1734')}\n${item('9926')}\n`);
    const run = await swiftkv([
      ...['eval', 'embedded:base', 'embedded:swiftkv-50', '--kv-dtype', 'bf16,fp8', '--agree', 'embedded:base'],
      ...['--perplexity', 'embedded:heldout', '--window', '64', '--exact', 'embedded:recall', '--limit', '6'],
      ...['--choices', quiz, '--shots', '1', '--json'],
    ]);
    expect(run).toMatchObject({ code: 0, stderr: '' });
    const { data, results, paired } = JSON.parse(run.stdout);
    expect(results.map((r: { model: string; kvCache: string }) => [r.model, r.kvCache])).toEqual([
      ['embedded:base', 'bf16'],
      ['embedded:base', 'fp8'],
      ['embedded:swiftkv-50', 'bf16'],
      ['embedded:swiftkv-50', 'fp8'],
    ]);
    for (const { perplexity, exact, choices } of results) {
      expect(perplexity.tokens).toBe(6 * 63);
      expect(exact.items).toBe(6);
      expect(choices.perByte.items).toBe(2);
    }
    const [base, baseFp8, cut, cutFp8] = results;
    expect(base.agreement).toMatchObject({ with: 'embedded:base', agreement: { value: 1 }, kl: { value: 0 } });
    expect(baseFp8.agreement.kl.value).toBeGreaterThan(0);
    expect(cut.agreement.kl.value).toBeGreaterThan(baseFp8.agreement.kl.value);
    expect(cutFp8.kvBytesPerToken).toBe((cut.kvBytesPerToken * 9) / 16);

    expect(Object.keys(data)).toEqual(['perplexity', 'exact', 'choices']);
    expect(base.exact.perItem.map(({ id }: { id: string }) => id)).toEqual(
      Array.from({ length: 6 }, (_, i) => `eval-150-${i}`),
    );
    expect(base.exact.perItem.filter(({ correct }: { correct: boolean }) => correct)).toHaveLength(base.exact.yes);
    expect(base.choices.perItem.map(({ id }: { id: string }) => id)).toEqual(['line 1', 'line 2']);
    expect(paired.against).toEqual({ model: 'embedded:base', kvCache: 'bf16' });
    expect(paired.rows).toHaveLength(3);
    const { perplexity, exact, choices, agreement } = paired.rows[1];
    expect(perplexity.change.value).toBeCloseTo(cut.perplexity.perplexity / base.perplexity.perplexity - 1, 12);
    expect(exact.value).toBeCloseTo(cut.exact.value - base.exact.value, 12);
    expect(exact.groups.map(({ group }: { group: string }) => group)).toEqual(['150']);
    expect(choices.plain.items).toBe(2);
    expect(agreement.agreement.value).toBeCloseTo(cut.agreement.agreement.value - 1, 12);

    // A file against itself: its first row is found again, with no difference.
    const file = join(folder, 'run.json');
    await writeFile(file, run.stdout);
    const again = JSON.parse((await swiftkv(['eval', '--pair', file, file, '--json'])).stdout).paired.rows;
    expect(again).toHaveLength(7);
    expect(again[1]).toEqual({ file, ...paired.rows[1] });
    expect(again[3]).toMatchObject({ exact: { value: 0, low: 0, high: 0 }, choices: { plain: { low: 0, high: 0 } } });
    expect(again[3].perplexity.change).toEqual({ value: 0, low: 0, high: 0 });
  });

  it('prints what each row changes against the first, and nothing changes for the same model', async () => {
    const args = ['--perplexity', 'embedded:heldout', '--window', '32', '--exact', 'embedded:recall', '--limit', '3'];
    const run = await swiftkv(['eval', 'embedded:base', 'embedded:base', 'embedded:swiftkv-50-g4', ...args]);
    const [, , second] = run.stdout.split('\n\n');
    expect(run.stdout).toContain('\n\nagainst embedded:base (bf16): difference on the same items and windows');
    expect(second).toMatch(/^model +KV cache +perplexity, % +exact, points$/m);
    expect(second).toMatch(/^embedded:base +bf16 +0\.00 \[0\.00, 0\.00\] +0\.0 \[0\.0, 0\.0\]$/m);
    expect(second).toMatch(/^embedded:swiftkv-50-g4 +bf16 +\+\d+\.\d\d \[-?\+?[\d.]+, \+[\d.]+\] /m);
  });

  it('prints a table by default, and markdown', async () => {
    const args = ['eval', 'embedded:swiftkv-50-g4', '--exact', 'embedded:recall', '--by', 'format', '--limit', '3'];
    const [plain, markdown] = await Promise.all([swiftkv(args), swiftkv([...args, '--markdown'])]);
    expect(plain.stdout).toMatch(/^model +KV cache +KV bytes\/token +exact +chat +plain\n-+/);
    expect(plain.stderr).toBe('exact: 3 items\n');
    expect(markdown.stdout).toMatch(/^\| model \| KV cache \|/);
  });

  const heldout = ['--perplexity', 'embedded:heldout'];
  const wrong: [string, string[], RegExp][] = [
    ['nothing to measure', [], /Expected at least one of --perplexity, --exact and --choices/],
    ['agreement without a text', ['--agree', 'embedded:base', '--exact', 'embedded:recall'], /Expected --perplexity/],
    ['an unknown embedded file', ['--exact', 'embedded:nothing'], /Expected one of heldout, recall/],
    ['a file that is not there', ['--choices', '/no/such/file'], /Reading \/no\/such\/file failed/],
    ['a text as JSONL', ['--exact', 'embedded:heldout'], /heldout\.txt:1: not JSON/],
    ['a window beyond the context', [...heldout, '--window', '4096'], /Expected at most 2048 \(maxModelLen\)/],
  ];
  it.each(wrong)('refuses %s', async (_, args, message) => {
    const run = await swiftkv(['eval', 'embedded:base', ...args, '--limit', '1']);
    expect(run.stderr).toMatch(message);
    expect(run).toMatchObject({ code: 1, stdout: '' });
  });
});
