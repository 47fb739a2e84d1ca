// Runs from the first file to the written model: `distill` gives a plain model SwiftKV's tensors and teaches them to do what
// it did; `train` trains all parameters from tokens. Both are async iterations over what happens.

import { appendFile, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { configFile } from '../checkpoint/checkpoint.ts';
import { fileExists } from '../checkpoint/files.ts';
import { requireEmptyFolder } from '../checkpoint/write-folder.ts';
import { SwiftKVError } from '../errors.ts';
import type { ModelConfig } from '../model/config.ts';
import { isSwiftkvType } from '../model/decoder-config.ts';
import { resolveModel } from '../model/embedded.ts';
import { type OpenModel, openModel } from '../model/open-model.ts';
import { loadTokenizer } from '../tokenizer/load.ts';
import { parseLayout } from './base-model.ts';
import { hashFiles, hasRun, type RunIdentity, resumeRun, saveRun } from './checkpoint.ts';
import { convertModel } from './convert.ts';
import { type DataFile, openData, type TrainingData } from './data/index.ts';
import type { DataState } from './data/packer.ts';
import { type EvaluationPoint, lossCsvHeader, lossCsvLine, lossCurveSvg, parseLossCsv } from './loss-curve.ts';
import { TrainingModel } from './model.ts';
import type { DistillRunOptions, RunOptions, TrainRunOptions } from './options.ts';
import { checkRunOptions, distillDefaults, trainDefaults } from './options.ts';
import { learningRate } from './schedule.ts';
import { runTrainer, scale, type TrainEvent, type TrainerState } from './trainer.ts';
import { writeModelCheckpoint, writeSwiftKVCheckpoint } from './write-checkpoint.ts';

export type RunEvent =
  | TrainEvent
  | { type: 'data'; files: TrainingData['files']; leftOut: number }
  | { type: 'start'; step: number; trainedParameters: number; bytes: number; level: string; threads: number }
  | { type: 'done'; out: string; step: number; tokens: number };

/** What a task does differently. */
interface Task {
  kind: 'distill' | 'train';
  /** The folder that the trained model is opened from. */
  source: string;
  identity: RunIdentity;
  options: Required<Omit<RunOptions, 'signal' | 'threads' | 'isa' | 'evaluationData'>> &
    Pick<RunOptions, 'signal' | 'threads' | 'isa' | 'evaluationData'>;
  distill: { temperature: number; hiddenLossMult: number; hiddenLossLayer: number | null } | null;
  write: (out: string, model: TrainingModel) => Promise<void>;
}

/**
 * Distils a plain model into a SwiftKV model that `out` holds at the end.
 *
 * Beside `out` there is a folder `OUT-training` with checkpoints, the student before distillation (`initial`), the
 * tokens of the data, `loss.csv` and `loss.svg`. With `resume` a run goes on from its newest checkpoint, to the bits that it would have had uninterrupted.
 * @param base a folder or `embedded:NAME`: a plain model; or a SwiftKV model with its teacher's projections, to go on with
 * @throws ERR_INVALID_ARGUMENT, ERR_ABORTED (a checkpoint has then been written), ERR_NUMERIC, ERR_IO, ERR_OUT_OF_MEMORY
 * and what opening a model and reading data throw
 */
export async function* distill(base: string, given: DistillRunOptions): AsyncGenerator<RunEvent, void> {
  const options = { ...distillDefaults, ...defined(given) };
  checkRunOptions(options);
  const opened = await openModel(resolveModel(base));
  const student = isSwiftkvType(opened.config.modelType);
  if (!student && options.kvLayers === undefined) {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', 'Expected kvLayers, e.g. 50%, to make a student of a plain model');
  }
  const layout = student
    ? requireLayout(opened.config, options)
    : parseLayout(opened.config, options.kvLayers!, options.groupSize ?? 1);
  if (student) requireTeacher(opened);
  const { temperature, hiddenLossMult, hiddenLossLayer } = options;
  const initial = join(trainingFolder(options.out), 'initial');
  const source = student ? opened.checkpoint.dir : initial;
  await requireFree(options);
  if (!student && !(await fileExists(join(initial, configFile)))) {
    await convertModel(base, {
      kvLayers: layout.numKvLayers,
      groupSize: layout.groupSize,
      out: initial,
      variant: true,
      signal: options.signal,
    });
  }
  const variant = options.variant ?? base.startsWith('embedded:');
  const task: Task = {
    kind: 'distill',
    source,
    identity: { ...layout, temperature, hiddenLossMult, hiddenLossLayer },
    options: { ...options, contextWeight: given.contextWeight ?? (options.lossOn === 'all' ? 1 : 0) },
    distill: { temperature, hiddenLossMult, hiddenLossLayer },
    write: (out, model) =>
      writeSwiftKVCheckpoint(out, opened, layout, parametersOf(model), { variant, signal: options.signal }),
  };
  yield* run(task, opened);
}

/**
 * Trains all parameters of a model on next tokens; `out` holds it at the end. The folder beside it is as for `distill`.
 * @param base a folder or `embedded:NAME`
 */
export async function* train(base: string, given: TrainRunOptions): AsyncGenerator<RunEvent, void> {
  const options = { ...trainDefaults, ...defined(given) };
  checkRunOptions(options);
  const opened = await openModel(resolveModel(base));
  await requireFree(options);
  const task: Task = {
    kind: 'train',
    source: opened.checkpoint.dir,
    identity: {},
    options,
    distill: null,
    write: (out, model) => writeModelCheckpoint(out, opened, parametersOf(model), { signal: options.signal }),
  };
  yield* run(task, opened);
}

async function* run(task: Task, base: OpenModel): AsyncGenerator<RunEvent, void> {
  const { options: o, distill: loss } = task;
  const folder = trainingFolder(o.out);
  const checkpoints = join(folder, 'checkpoints');
  const tokenizer = await loadTokenizer([base.checkpoint.dir, base.checkpoint.tokenizerDir]);
  if (tokenizer === null) {
    throw new SwiftKVError(
      'ERR_NO_TOKENIZER',
      `${base.checkpoint.dir} has no tokenizer.json, which training data need`,
    );
  }
  try {
    const stream = {
      tokensPerBatch: o.tokensPerBatch,
      maxSeqs: o.maxSeqs,
      maxLength: o.maxLength,
      seed: o.seed,
      answerWeight: o.answerWeight,
      contextWeight: o.contextWeight,
      textWeight: o.textWeight,
      cache: { dir: join(folder, 'tokens'), tokenizerDir: base.checkpoint.tokenizerDir },
      signal: o.signal,
    };
    const files = o.data.map(fileOf);
    // Read once: a run that goes on sets the stream to where it was.
    const read = await openData(files, tokenizer, base.config, stream);
    const evaluationFiles = (o.evaluationData ?? []).map(fileOf);
    const evaluation =
      evaluationFiles.length === 0
        ? null
        : await openData(evaluationFiles, tokenizer, base.config, { ...stream, seed: 0 });
    yield { type: 'data', files: read.files, leftOut: read.stream.leftOut };

    const model = await TrainingModel.open(task.source, {
      task: task.kind,
      dtype: o.dtype,
      maxRows: o.tokensPerBatch,
      maxSeqs: o.maxSeqs,
      maxLength: o.maxLength,
      recompute: o.recompute,
      ...(loss !== null && { temperature: loss.temperature, hiddenLossLayer: loss.hiddenLossLayer }),
      threads: o.threads,
      isa: o.isa,
      signal: o.signal,
    });
    try {
      const identity = await identify(task, base, read, model);
      const saved = o.resume ? await resumeRun(checkpoints, model, identity) : null;
      if (saved !== null) read.stream.restore(saved.state.data as DataState);
      await mkdir(folder, { recursive: true });
      const record = await LossRecord.open(folder, saved?.state.step ?? 0);
      yield {
        type: 'start',
        step: saved?.state.step ?? 0,
        trainedParameters: model.parameters.total,
        bytes: model.device.memory().total,
        level: model.level,
        threads: model.threads,
      };
      const schedule = { steps: o.steps, warmup: { ratio: o.warmup }, lr: o.learningRate, schedule: o.schedule };
      const floored = o.schedule === 'cosine' ? { ...schedule, floor: o.floor } : schedule;
      const steps = runTrainer(
        model,
        read.stream,
        {
          steps: o.steps,
          accumulation: o.accumulation,
          learningRate: (step) => learningRate(step, floored),
          beta1: o.beta1,
          beta2: o.beta2,
          eps: o.eps,
          weightDecay: o.weightDecay,
          clip: o.clip,
          hiddenLossMult: loss?.hiddenLossMult ?? 0,
          evaluateEvery: evaluation === null ? 0 : o.evaluateEvery,
          evaluate: evaluation === null ? undefined : evaluator(model, evaluation, o.evaluationBatches),
          checkpointEvery: o.checkpointEvery,
          saveCheckpoint: async (state) => {
            const path = await saveRun(checkpoints, model, identity, state);
            if (o.checkpointModels) await task.write(join(path, 'model'), model);
            return path;
          },
          signal: o.signal,
        },
        saved?.state,
      );
      let state: TrainerState = saved?.state ?? { step: 0, tokens: 0, data: null };
      while (true) {
        const next = await steps.next();
        if (next.done === true) {
          state = next.value;
          break;
        }
        await record.add(next.value);
        yield next.value;
      }
      await task.write(o.out, model);
      yield { type: 'done', out: resolve(o.out), step: state.step, tokens: state.tokens };
    } finally {
      await model.dispose();
    }
  } finally {
    await tokenizer.dispose?.();
  }
}

/** Everything that a run's bits depend on. */
async function identify(task: Task, base: OpenModel, data: TrainingData, model: TrainingModel): Promise<RunIdentity> {
  const o = task.options;
  const weights = [...new Set([...base.checkpoint.tensors.values()].map(({ path }) => path))].sort();
  return {
    task: task.kind,
    base: await hashFiles(weights),
    data: data.files.map(({ sha256 }) => sha256.slice(0, 16)).join(' '),
    dataWeights: o.data.map((file) => fileOf(file).weight ?? '').join(' '),
    level: model.level,
    dtype: o.dtype,
    steps: o.steps,
    tokensPerBatch: o.tokensPerBatch,
    accumulation: o.accumulation,
    maxLength: o.maxLength,
    maxSeqs: o.maxSeqs,
    seed: o.seed,
    learningRate: o.learningRate,
    schedule: o.schedule,
    warmup: o.warmup,
    floor: o.floor,
    beta1: o.beta1,
    beta2: o.beta2,
    eps: o.eps,
    weightDecay: o.weightDecay,
    clip: o.clip,
    answerWeight: o.answerWeight,
    contextWeight: o.contextWeight,
    textWeight: o.textWeight,
    ...task.identity,
  };
}

/** Mean loss of the same batches each time: by token that counts. */
function evaluator(model: TrainingModel, { stream }: TrainingData, batches: number) {
  const packed = Array.from({ length: batches }, () => stream.next());
  const scaled = scale(model, packed, 0);
  return async () => {
    let loss = 0;
    for (const batch of scaled) loss += await model.evaluate(batch);
    return { loss };
  };
}

/** loss.csv and loss.svg. */
class LossRecord {
  readonly #folder: string;
  readonly #evaluations: EvaluationPoint[];

  private constructor(folder: string, evaluations: EvaluationPoint[]) {
    this.#folder = folder;
    this.#evaluations = evaluations;
  }

  static async open(folder: string, step: number): Promise<LossRecord> {
    const csv = join(folder, 'loss.csv');
    if (step === 0 || !(await fileExists(csv))) await writeFile(csv, lossCsvHeader);
    const evaluations = join(folder, 'evaluations.json');
    const known =
      step > 0 && (await fileExists(evaluations))
        ? (JSON.parse(await readFile(evaluations, 'utf8')) as EvaluationPoint[])
        : [];
    return new LossRecord(
      folder,
      known.filter((point) => point.step <= step),
    );
  }

  async add(event: TrainEvent): Promise<void> {
    if (event.type === 'step') await appendFile(join(this.#folder, 'loss.csv'), lossCsvLine(event));
    if (event.type === 'evaluation') {
      this.#evaluations.push({ step: event.step, loss: event.values['loss']! });
      await writeFile(join(this.#folder, 'evaluations.json'), `${JSON.stringify(this.#evaluations)}\n`);
    }
    if (event.type === 'checkpoint') await this.#draw();
  }

  async #draw(): Promise<void> {
    const records = parseLossCsv(await readFile(join(this.#folder, 'loss.csv'), 'utf8'));
    const temporary = join(this.#folder, '.loss.svg');
    await writeFile(temporary, lossCurveSvg(records, this.#evaluations));
    await rename(temporary, join(this.#folder, 'loss.svg'));
  }
}

/** Where a run keeps what it works with: beside what it writes. */
export function trainingFolder(out: string): string {
  const path = resolve(out);
  return join(dirname(path), `${basename(path)}-training`);
}

/** @throws ERR_INVALID_ARGUMENT when there is something that a new run would overwrite */
async function requireFree({ out, resume }: Pick<RunOptions, 'out' | 'resume'>): Promise<void> {
  await requireEmptyFolder(resolve(out));
  if (resume === true) return;
  const folder = trainingFolder(out);
  if (await hasRun(join(folder, 'checkpoints'))) {
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `${folder} has the checkpoints of a run; go on with it (--resume), or remove it to begin anew`,
    );
  }
  await rm(join(folder, 'initial'), { recursive: true, force: true });
}

/** What a student learns from is in its own checkpoint. @throws ERR_MODEL_INVALID */
function requireTeacher({ checkpoint, config }: OpenModel): void {
  const name = `model.layers.${config.numKvLayers}.self_attn.q_proj.weight`;
  if (checkpoint.tensors.has(name)) return;
  throw new SwiftKVError(
    'ERR_MODEL_INVALID',
    `${checkpoint.dir}: tensor ${name} is missing: the teacher's projections were removed, and there is nothing to learn ` +
      'from; use a checkpoint that has them, or distil the plain model',
  );
}

function requireLayout(
  config: ModelConfig,
  { kvLayers, groupSize }: Pick<DistillRunOptions, 'kvLayers' | 'groupSize'>,
): { numKvLayers: number; groupSize: number } {
  const { numKvLayers, groupSize: own } = config;
  const wanted = kvLayers === undefined ? null : parseLayout(config, kvLayers, groupSize ?? own);
  if (wanted === null || (wanted.numKvLayers === numKvLayers && wanted.groupSize === own)) {
    return { numKvLayers, groupSize: own };
  }
  throw new SwiftKVError(
    'ERR_INVALID_ARGUMENT',
    `The model is a SwiftKV model of ${numKvLayers} layers with K and V, groups of ${own}: expected the same, or none, ` +
      `but received ${wanted.numKvLayers} and ${wanted.groupSize}`,
  );
}

function parametersOf(model: TrainingModel): Map<string, Float32Array> {
  return new Map([...model.byName(model.read('parameters'))].map(([name, { values }]) => [name, values]));
}

function fileOf(file: string | DataFile): DataFile {
  return typeof file === 'string' ? { path: file } : file;
}

/** Without what is undefined, so that defaults hold. */
function defined<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;
}
