// Whole runs: what they write, that a run which was stopped goes on to the same bits, and what can go wrong.

import { spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.ts';
import { Engine } from '../../lib/engine/engine.ts';
import { parseLossCsv } from '../../lib/train/loss-curve.ts';
import type { DistillRunOptions, RunOptions } from '../../lib/train/options.ts';
import { distill, type RunEvent, train, trainingFolder } from '../../lib/train/run.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'swiftkv-train-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const base = 'embedded:base';
const facts = Array.from({ length: 40 }, (_, i) => ({
  prompt: `The code for box ${i} is ${(i * 7919) % 10000}.\n\nQuestion: What is the code for box ${i}?\nAnswer:`,
  answer: ` ${(i * 7919) % 10000}\n`,
}));

async function writeFacts(): Promise<string> {
  const file = join(folder, 'facts.jsonl');
  await writeFile(file, facts.map((fact) => `${JSON.stringify(fact)}\n`).join(''));
  return file;
}

const quick = {
  steps: 6,
  tokensPerBatch: 256,
  maxLength: 64,
  maxSeqs: 8,
  warmup: 0,
  learningRate: 1e-3,
  checkpointEvery: 2,
  threads: 1,
} as const;

async function all(events: AsyncIterable<RunEvent>): Promise<RunEvent[]> {
  const seen: RunEvent[] = [];
  for await (const event of events) seen.push(event);
  return seen;
}

const ofType = <T extends RunEvent['type']>(events: readonly RunEvent[], type: T) =>
  events.filter((event): event is RunEvent & { type: T } => event.type === type);

/** Bytes of every tensor file of a folder. */
async function weights(dir: string): Promise<Buffer> {
  return readFile(join(dir, 'model.safetensors'));
}

const tasks = [
  ['distill', (o: RunOptions & DistillRunOptions) => distill(base, { kvLayers: '50%', groupSize: 4, ...o })],
  ['train', (o: RunOptions) => train(base, o)],
] as const;

describe.each(tasks)('%s', (_, run) => {
  it('writes a model that loads, a record of the losses and checkpoints, and the loss falls', async () => {
    const out = join(folder, 'out');
    const data = [await writeFacts()];
    const events = await all(run({ ...quick, steps: 12, data, out, evaluationData: data, evaluateEvery: 6 }));
    const steps = ofType(events, 'step');
    expect(steps.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    expect(steps.at(-1)!.loss).toBeLessThan(0.8 * steps[0]!.loss);
    const evaluations = ofType(events, 'evaluation');
    expect(evaluations.map(({ step }) => step)).toEqual([6, 12]);
    expect(evaluations[1]!.values['loss']).toBeLessThan(evaluations[0]!.values['loss']!);
    expect(events.at(-1)).toMatchObject({ type: 'done', out, step: 12 });

    const record = parseLossCsv(await readFile(join(trainingFolder(out), 'loss.csv'), 'utf8'));
    expect(record.map(({ loss }) => loss)).toEqual(steps.map(({ loss }) => loss));
    expect(await readFile(join(trainingFolder(out), 'loss.svg'), 'utf8')).toContain('<svg');
    expect(await readdir(join(trainingFolder(out), 'checkpoints'))).toEqual(['step-0000010', 'step-0000012']);

    await using engine = await Engine.load(out, { maxModelLen: 64, threads: 1 });
    const { tokenIds } = await engine.generate({ prompt: 'The code', maxTokens: 2, ignoreEos: true }).result();
    expect(tokenIds.length).toBe(2);
  });

  it('goes on from a checkpoint to the same bits', async () => {
    const data = [await writeFacts()];
    const whole = join(folder, 'whole');
    const wholeEvents = await all(run({ ...quick, data, out: whole }));
    const part = join(folder, 'part');
    const controller = new AbortController();
    const stopped = (async () => {
      for await (const event of run({ ...quick, data, out: part, signal: controller.signal, threads: 2 })) {
        if (event.type === 'step' && event.step === 3) controller.abort();
      }
    })();
    await expect(stopped).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    // It was stopped between two checkpoints, and saved one.
    expect(await readdir(join(trainingFolder(part), 'checkpoints'))).toEqual(['step-0000002', 'step-0000003']);
    await expect(all(run({ ...quick, data, out: part }))).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/has the checkpoints of a run.*--resume/),
    });
    const events = await all(run({ ...quick, data, out: part, resume: true }));
    expect(ofType(events, 'start')[0]!.step).toBe(3);
    expect(ofType(events, 'step').map(({ loss }) => loss)).toEqual(
      ofType(wholeEvents, 'step')
        .slice(3)
        .map(({ loss }) => loss),
    );
    // Compared here: a matcher takes minutes for megabytes.
    expect((await weights(part)).equals(await weights(whole))).toBe(true);
    expect(parseLossCsv(await readFile(join(trainingFolder(part), 'loss.csv'), 'utf8')).length).toBe(6);
  });

  it('refuses to go on with another run', async () => {
    const data = [await writeFacts()];
    const out = join(folder, 'out');
    for await (const event of run({ ...quick, data, out })) if (event.type === 'checkpoint') break;
    const resume = (options: Partial<RunOptions>) => all(run({ ...quick, data, out, resume: true, ...options }));
    await expect(resume({ learningRate: 2e-3 })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/is of another run: learningRate was 0.001 and is 0.002/),
    });
    await expect(resume({ seed: 1 })).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    await writeFile(data[0]!, `${JSON.stringify(facts[0])}\n`);
    await expect(resume({})).rejects.toMatchObject({ message: expect.stringMatching(/data was/) });
  });
});

it('distillation changes nothing but its own tensors', async () => {
  const out = join(folder, 'out');
  const data = [await writeFacts()];
  await all(distill(base, { ...quick, kvLayers: 4, data, out, variant: false }));
  const [student, initial, teacher] = await Promise.all(
    [out, join(trainingFolder(out), 'initial'), fileURLToPath(new URL('../../models/base', import.meta.url))].map(
      openCheckpoint,
    ),
  );
  const bytesOf = async (tensor: { path: string; offset: number; byteLength: number }) =>
    (await readFile(tensor.path)).subarray(tensor.offset, tensor.offset + tensor.byteLength);
  for (const [name, tensor] of student!.tensors) {
    const other = teacher!.tensors.get(name) ?? initial!.tensors.get(name)!;
    const same = (await bytesOf(tensor)).equals(await bytesOf(other));
    expect(same, name).toBe(!name.includes('_swiftkv'));
  }
});

it('goes on with a SwiftKV model that has its teacher', async () => {
  const data = [await writeFacts()];
  await all(distill(base, { ...quick, kvLayers: 4, data, out: join(folder, 'first'), variant: false }));
  const events = await all(distill(join(folder, 'first'), { ...quick, data, out: join(folder, 'second') }));
  expect(events.at(-1)).toMatchObject({ type: 'done' });
  const other = distill(join(folder, 'first'), { ...quick, kvLayers: 2, data, out: join(folder, 'third') });
  await expect(all(other)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
});

describe('a run that is killed', () => {
  it('at a random step goes on to the same bits', async () => {
    const data = await writeFacts();
    const cli = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
    const args = ['distill', base, '--kv-layers', '50%', '--data', data, '--steps', '8', '--threads', '1'];
    const more = ['--tokens-per-batch', '256', '--max-length', '64', '--checkpoint-every', '1', '--log-every', '1'];
    const start = (out: string, ...rest: string[]) =>
      spawn(process.execPath, [cli, ...args, ...more, '--out', join(folder, out), ...rest]);
    const ended = (child: ReturnType<typeof start>) =>
      new Promise<number | string>((resolve) => child.on('exit', (code, signal) => resolve(code ?? signal ?? '')));
    expect(await ended(start('whole'))).toBe(0);
    const killed = start('killed');
    const kill = 2 + Math.floor(Math.random() * 5);
    killed.stderr.on('data', (text) => {
      if (String(text).includes(`step ${kill} of 8`)) killed.kill('SIGKILL');
    });
    expect(await ended(killed)).toBe('SIGKILL');
    expect(await ended(start('killed', '--resume'))).toBe(0);
    expect((await weights(join(folder, 'killed'))).equals(await weights(join(folder, 'whole')))).toBe(true);
  });
});

describe('what goes wrong says what to do', () => {
  it('a bad line', async () => {
    const file = join(folder, 'bad.jsonl');
    await writeFile(file, `${JSON.stringify(facts[0])}\n{"prompt": 3}\n`);
    const run = train(base, { ...quick, data: [file], out: join(folder, 'out') });
    await expect(all(run)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/bad\.jsonl:2/),
    });
  });

  it('a loss that is no number, after which the last checkpoint is whole', async () => {
    const out = join(folder, 'out');
    const data = [await writeFacts()];
    const run = train(base, { ...quick, data, out, learningRate: 1e30, clip: Number.POSITIVE_INFINITY, steps: 20 });
    await expect(all(run)).rejects.toMatchObject({
      code: 'ERR_NUMERIC',
      message: expect.stringMatching(/nothing was changed by it.*last checkpoint/),
    });
  });

  it('a student for a plain run, and a plain model without a number of layers', async () => {
    const data = [await writeFacts()];
    await expect(all(distill(base, { ...quick, data, out: join(folder, 'out') }))).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/Expected kvLayers/),
    });
  });

  it('a teacher that was removed', async () => {
    const stripped = join(folder, 'stripped');
    await cp(fileURLToPath(new URL('../golden/data/llama_swiftkv_hd64', import.meta.url)), stripped, {
      recursive: true,
    });
    for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
      await cp(fileURLToPath(new URL(`../../models/base/${name}`, import.meta.url)), join(stripped, name));
    }
    const file = join(folder, 'text.txt');
    await writeFile(file, 'a b c');
    const run = distill(stripped, { ...quick, data: [file], out: join(folder, 'out') });
    await expect(all(run)).rejects.toMatchObject({
      code: 'ERR_MODEL_INVALID',
      message: expect.stringMatching(/self_attn\.q_proj\.weight.*is missing.*teacher/),
    });
  });

  it('a checkpoint that cannot be written: the one before is whole, and the run goes on from it', async () => {
    const out = join(folder, 'out');
    const data = [await writeFacts()];
    const checkpoints = join(trainingFolder(out), 'checkpoints');
    const run = async () => {
      for await (const event of train(base, { ...quick, data, out })) {
        // A folder in the way of the next checkpoint, that cannot be replaced by a rename.
        if (event.type === 'checkpoint' && event.step === 2) {
          await rm(join(checkpoints, 'step-0000004'), { recursive: true, force: true });
          await rm(checkpoints, { recursive: true });
          await writeFile(checkpoints, 'a file where a folder should be');
        }
      }
    };
    await expect(run()).rejects.toMatchObject({
      code: 'ERR_IO',
      message: expect.stringMatching(/Writing the checkpoint .*step-0000004 failed: .*--resume/),
    });
  });

  it('an output that exists', async () => {
    const out = join(folder, 'out');
    await mkdir(out);
    await writeFile(join(out, 'x'), '');
    await expect(all(train(base, { ...quick, data: [await writeFacts()], out }))).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    });
  });

  it.each([
    [{ steps: 0 }, /steps/],
    [{ learningRate: -1 }, /learning rate/],
    [{ beta1: 1 }, /beta1/],
    [{ maxLength: 512 }, /maxLength/],
    [{ data: [] }, /data/],
    [{ clip: 0 }, /clip/],
    [{ dtype: 'f16' as 'f32' }, /dtype/],
    [{ hiddenLossLayer: -1 }, /hiddenLossLayer/],
  ])('the option %o', async (options, message) => {
    const run = distill(base, { ...quick, kvLayers: 4, data: ['x.jsonl'], out: join(folder, 'out'), ...options });
    await expect(all(run)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    });
  });
});
