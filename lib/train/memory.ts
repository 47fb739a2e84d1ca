// What training a model takes, before it is allocated: buffers counted in the programs themselves, the rest by formula.

import { SwiftKVError } from '../errors.ts';
import { formatBytes } from '../machine/memory.ts';
import { type ModelConfig, numDistinctCaches } from '../model/config.ts';
import { blockTokens } from '../model/kv-cache.ts';
import { bufferBytes } from '../model/program.ts';
import { processReserve } from '../model/sizes.ts';
import { packedBytes } from '../model/weight-dtype.ts';
import { planTensor } from '../model/weight-plan.ts';
import type { TrainingModelOptions } from './model.ts';
import { planTraining, type TrainingPlan } from './plan.ts';

/** Bytes by what they are for. */
export interface TrainingBytes {
  /** In the compute dtype, the teacher's among them. */
  weights: number;
  /** Weights transposed, for gradients of inputs. */
  transposes: number;
  /** f32: what is updated, its gradients, and the two moments. */
  parameters: number;
  gradients: number;
  moments: number;
  /** Buffers of a micro-step: activations that are kept, and gradients on their way. */
  activations: number;
  /** Buffers of an evaluation, which exist from the first one on. */
  evaluation: number;
  kvPool: number;
  /** What ops need while they run: above all logits of some rows. */
  scratch: number;
  /** Tokens, their weights, the RoPE table. */
  inputs: number;
  /** All of these. */
  total: number;
  /** Beside them, outside of native code, while parameters are written: in f32, and in what the file has. */
  checkpoint: number;
}

type Options = Omit<TrainingModelOptions, 'threads'> & { threads: number };

/** Pure; what a model holds from its first evaluation on is within a few per cent of it. */
export function trainingBytes(
  config: ModelConfig,
  options: Options,
  plan: TrainingPlan = planTraining(config, options),
): TrainingBytes {
  const { dtype, maxRows } = options;
  const { targets, parameters, capacity, numBlocks, microStep, evaluation } = plan;
  const sum = <T>(items: Iterable<T>, bytes: (item: T) => number) =>
    [...items].reduce((total, item) => total + bytes(item), 0);
  const shapes = new Map(targets.map(({ key, rows, k }) => [key, { rows, k }]));
  const flat = parameters.total * 4;
  const cacheBytes = 2 * config.numKvHeads * config.headDim * elementBytes[dtype];
  const parts = {
    weights: sum(targets, (target) => planTensor(target, dtype, dtype).bytes),
    transposes: sum(microStep.transposed, (key) => packedBytes(dtype, shapes.get(key)!.k, shapes.get(key)!.rows)),
    parameters: flat,
    gradients: flat,
    moments: 2 * flat,
    activations: bufferBytes(microStep.program, capacity),
    evaluation: bufferBytes(evaluation.program, capacity),
    kvPool: numBlocks * blockTokens * microStep.numCaches * cacheBytes,
    // An evaluation has the same head and no gradients behind it.
    scratch: scratchBytes(config, options) + Math.max(partialBytes(options), headScratch(config, options)),
    inputs:
      4 * maxRows * (config.hiddenSize + 2) + // zeros, and two weights of each row
      4 * (5 * maxRows + options.maxSeqs * (capacity.maxBlocksPerSeq + 7)) + // the batch
      4 * options.maxLength * config.headDim,
  };
  return { ...parts, total: sum(Object.values(parts), (bytes) => bytes), checkpoint: 2 * flat };
}

/** @throws ERR_OUT_OF_MEMORY with the sum, when it is more than `available` without what the process itself needs */
export function requireMemory(bytes: TrainingBytes, available: number): void {
  const reserve = processReserve(bytes.weights) + bytes.checkpoint;
  const room = Math.max(0, available - reserve);
  if (bytes.total <= room) return;
  const optimizer = bytes.parameters + bytes.gradients + bytes.moments;
  const parts = Object.entries({
    weights: bytes.weights + bytes.transposes,
    'parameters, gradients and moments': optimizer,
    activations: bytes.activations + bytes.evaluation,
    'KV cache': bytes.kvPool,
    workspace: bytes.scratch + bytes.inputs,
  });
  throw new SwiftKVError(
    'ERR_OUT_OF_MEMORY',
    `Training needs ${formatBytes(bytes.total)}: ${parts.map(([name, n]) => `${name} ${formatBytes(n)}`).join(', ')}; ` +
      `available are ${formatBytes(room)} beside ${formatBytes(reserve)} that the process itself and its checkpoints ` +
      'may need. Lower tokensPerBatch, recompute activations, or use dtype bf16',
  );
}

const elementBytes = { f32: 4, bf16: 2 } as const;

// The sizes below are those of csrc/backends/cpu/train, where kernels have them of their own.

/** Rows of a head whose logits exist at once. */
const headRows = 256;
/** Rows and outputs of a piece of a weight's gradient. */
const reducedRows = 1040;
const reducedOutputs = 384;
/** Queries and keys of a block of attention. */
const attentionKeys = 32;
/** A product's f32 tile, of one thread. */
const tileBytes = 128 << 10;

/** Partial results of attention, whatever the model: wide vectors take them for many pieces at once. */
function partialBytes({ isa = 'avx512' }: Options): number {
  return isa === 'avx512' ? 2 << 20 : 0;
}

/** The largest of a micro-step's ops; one piece of memory serves them all. */
function scratchBytes(config: ModelConfig, options: Options): number {
  const { dtype, maxRows, threads, isa } = options;
  const { hiddenSize: d, intermediateSize: ff, numHeads, numKvHeads, headDim, numLayers, numKvLayers } = config;
  const groups = numDistinctCaches(config) - numKvLayers;
  const products = [
    [(numHeads + 2 * numKvHeads) * headDim, d],
    [groups * 2 * numKvHeads * headDim, d],
    [d, numHeads * headDim],
    [2 * ff, d],
    [d, ff],
  ] as const;
  const keys = Math.ceil(maxRows / attentionKeys) * attentionKeys;
  const width = Math.ceil(headDim / 32) * 32;
  const attention =
    4 *
    threads *
    (keys * (3 * width + 2 * headDim + attentionKeys) + 5 * attentionKeys * width + 3 * attentionKeys ** 2);
  if (isa === 'scalar') return Math.max(headScratch(config, options), 8 * threads * maxRows);
  // Without bf16 instructions a product's rows are widened first.
  const widened = dtype === 'bf16' && (isa === 'avx2' || isa === 'neon');
  return Math.max(
    partialBytes(options),
    headScratch(config, options),
    attention,
    ...products.map(([n, k]) => weightGradientScratch(n, k, maxRows, dtype)),
    4 * Math.ceil(maxRows / 64) * d, // sums of a norm's gradient
    numKvLayers < numLayers ? maxRows * d * elementBytes[dtype] : 0, // the norm before SwiftKV's projection
    widened ? maxRows * Math.max(2 * ff, d) * 4 : 0, // gradients of gate and up are the widest
  );
}

/** Of heads of loss: rows gathered, logits, and gradients of logits; then those of the products within. */
function headScratch({ hiddenSize: d, vocabSize }: ModelConfig, options: Options): number {
  const { task, dtype, maxRows, threads, isa } = options;
  const rows = Math.min(maxRows, headRows);
  const element = elementBytes[dtype];
  const models = task === 'distill' ? 2 : 1;
  const own = rows * (models * (d * element + vocabSize * 4) + vocabSize * element + d * 4);
  if (isa === 'scalar') return own;
  return own + (task === 'train' ? weightGradientScratch(vocabSize, d, rows, dtype) : 0) + threads * tileBytes;
}

function weightGradientScratch(n: number, k: number, rows: number, dtype: 'f32' | 'bf16'): number {
  const outputs = Math.min(n, reducedOutputs);
  return (Math.ceil(k / 64) * 64 + outputs) * Math.min(rows, reducedRows) * elementBytes[dtype];
}
