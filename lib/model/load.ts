// Turns a folder, or `random:NAME`, into something that runs steps. The one entry of lib/model for the engine.

import type { JsonObject } from '../checkpoint/json.ts';
import { SwiftKVError, toSwiftKVError } from '../errors.ts';
import { type DeviceName, type OpenedBackend, openBackend, parseDevice } from '../kernels/backend.ts';
import { availableMemory } from '../machine/memory.ts';
import type { NativeBinding, NativeDevice, NativeTensor } from '../native/binding.ts';
import { native } from '../native/load.ts';
import { abortError } from './abort.ts';
import { architectures } from './architectures.ts';
import { type ModelConfig, numDistinctCaches } from './config.ts';
import { resolveModel } from './embedded.ts';
import { blockTokens, cacheSpecs, kvBytesPerToken } from './kv-cache.ts';
import { allocateWeights, readWeights, type WeightProgress, type Weights } from './load-weights.ts';
import type { ModelInfo, ModelMemory } from './model-info.ts';
import { NativeModelRunner } from './native-runner.ts';
import { bufferBytes, buildForward } from './program.ts';
import { fillRandom } from './random.ts';
import { inverseFrequencies } from './rope.ts';
import type { ModelRunner } from './runner.ts';
import {
  chooseCapacity,
  chooseSizes,
  describeSum,
  deviceReserve,
  type MemoryBudget,
  processReserve,
  type SizeOptions,
  type Sizes,
} from './sizes.ts';
import { type ModelSource, openSource } from './source.ts';
import { type ActivationDType, activationDTypes, dtypeName, type WeightDType, weightDTypes } from './weight-dtype.ts';

export type LoadProgress = WeightProgress;

export interface LoadOptions extends SizeOptions {
  device: DeviceName;
  /** `auto`: bf16 when every matrix is stored in 16 bits, else f32. */
  dtype: 'auto' | 'f32' | 'bf16';
  /** Default `auto`: as the checkpoint stores them. */
  weightDtype?: WeightDType | undefined;
  /** Default `auto`: the compute dtype. */
  activationDtype?: ActivationDType | undefined;
  /** Default: the compute dtype. */
  kvCacheDtype?: 'f32' | 'bf16' | 'fp8' | undefined;
  threads?: number | undefined;
  /** ISA level of the kernels; default: the best one this machine can run. */
  isa?: string | undefined;
  /** Default true. */
  batchInvariant?: boolean | undefined;
  /** Bytes of device memory; default: all. Not for cpu. */
  memoryLimit?: number | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: LoadProgress) => void) | undefined;
}

/** A model in memory, on a device. */
export interface LoadedModel extends ModelRunner {
  /** Folder that has the tokenizer files (a variant takes its base's), or null for a model made in memory. */
  readonly tokenizerDir: string | null;
  /** generation_config.json as written, or null. */
  readonly generationConfig: JsonObject | null;
  readonly maxModelLen: number;
  info(): ModelInfo;
  /** What the model holds now, counted natively. Works after `dispose`. */
  memory(): ModelMemory;
  /**
   * Logits at every position of one sequence, every layer run on every row (student mode). Independent of a step in
   * flight. `blocks` are blocks of the pool lent for the call, at least ceil(tokenIds.length / 16) of them.
   * Result: [tokenIds.length, vocabSize].
   */
  logits(tokenIds: ArrayLike<number>, blocks: ArrayLike<number>, signal?: AbortSignal): Promise<Float32Array>;
}

/**
 * Reads, checks and loads a model. Nothing is allocated before every file has been validated and all memory counted.
 * @param source a Hugging Face folder, `embedded:NAME`, or `random:NAME?kv-layers=50%&group=4&seed=1`
 * @throws ERR_MODEL_NOT_FOUND, ERR_MODEL_INVALID, ERR_MODEL_UNSUPPORTED, ERR_INVALID_ARGUMENT, ERR_OUT_OF_MEMORY,
 *   ERR_ABORTED, ERR_IO, ERR_UNSUPPORTED, ERR_NATIVE_LOAD
 */
export async function loadModel(source: string, options: LoadOptions): Promise<NativeModelRunner> {
  checkOptions(options);
  const { signal } = options;
  if (signal?.aborted) throw abortError(signal);
  const { dtype, weightDtype = 'auto', activationDtype = 'auto', kvCacheDtype } = options;
  const model = await openSource(resolveModel(source), { dtype, weightDtype, activationDtype, kvCacheDtype });
  if (signal?.aborted) throw abortError(signal);
  const binding = native();
  const opened = openBackend(binding, options);
  const device = opened.native;
  const budget = memoryBudget(model, opened, options);
  let kvPool = 0;
  let runner: NativeModelRunner | null = null;
  try {
    const specs = cacheSpecs(model.config, model.kvCacheDtype, model.staticScales);
    const bytesPerToken = kvBytesPerToken(specs);
    const sizes = chooseSizes(model.config, bytesPerToken, budget, options);
    kvPool = sizes.kvPoolBytes;
    const weights = await makeWeights(binding, device, model, options);
    weights.set('rope', await makeRopeTable(binding, device, model, sizes.maxModelLen));
    if (signal?.aborted) throw abortError(signal);
    const pool = binding.kvPool(device, sizes.numBlocks, specs);
    runner = new NativeModelRunner({
      binding,
      device,
      architecture: architectures.get(model.config.modelType)!,
      config: model.config,
      dtype: model.plan.dtype,
      fp8Activations: activationDtype === 'fp8',
      weights,
      pool,
      capacity: sizes.capacity,
      maxModelLen: sizes.maxModelLen,
      kvBytesPerToken: bytesPerToken,
      tokenizerDir: model.tokenizerDir,
      generationConfig: model.generationConfig,
      info: describe(source, model, sizes, { opened, options, bytesPerToken }),
    });
    // Now, and not in the first steps: the pool, the workspace, and what is left of the weights.
    await device.touch();
    if (signal?.aborted) throw abortError(signal);
    return runner;
  } catch (error) {
    if (runner === null) device.close();
    else await runner.dispose();
    const coded = toSwiftKVError(error);
    // Without a pool the sizes were not chosen: then it is their sum that did not fit, and it has been said.
    if (coded.code !== 'ERR_OUT_OF_MEMORY' || kvPool === 0) throw coded;
    const sum = describeSum({ ...budget, kvPool });
    throw new SwiftKVError('ERR_OUT_OF_MEMORY', `${coded.message}. ${sum}`, { cause: error });
  }
}

/** Of the memory that the model will lie in: the process's, or the device's own. */
function memoryBudget(model: ModelSource, { info }: OpenedBackend, options: LoadOptions): MemoryBudget {
  const reserve = info === null ? processReserve(model.plan.packedBytes) : deviceReserve(model.plan.packedBytes);
  return {
    available: Math.max(0, (info?.freeBytes ?? availableMemory()) - reserve),
    reserve,
    weights: model.plan.packedBytes,
    workspace: workspaceEstimate(model, options),
    ownMemory: parseDevice(options.device).backend === 'cuda',
  };
}

/** Buffers exactly; the scratch of ops is known only to native code and is small beside them. */
function workspaceEstimate(model: ModelSource, options: SizeOptions): number {
  const capacity = { ...chooseCapacity(model.config, options), maxBlocksPerSeq: 1 };
  const architecture = architectures.get(model.config.modelType)!;
  const forward = { config: model.config, dtype: model.plan.dtype, sample: true, fp8Activations: false };
  return bufferBytes(buildForward(architecture, forward), capacity);
}

async function makeWeights(
  binding: NativeBinding,
  device: NativeDevice,
  { plan, random, config }: ModelSource,
  { signal, onProgress }: LoadOptions,
): Promise<Weights> {
  const weights = await allocateWeights(binding, device, plan.tensors, signal);
  if (random === null) {
    await readWeights(binding, device, plan.segments, plan.sourceBytes, weights, { signal, onProgress });
  } else {
    const targets = architectures.get(config.modelType)!.weights(config);
    const report = (loadedBytes: number) =>
      onProgress?.({ phase: 'weights', loadedBytes, totalBytes: plan.packedBytes });
    await fillRandom(targets, random, weights, { signal, onProgress: report });
  }
  return weights;
}

/** [positions, headDim] f32. */
export async function makeRopeTable(
  binding: NativeBinding,
  device: NativeDevice,
  { config }: { config: ModelConfig },
  positions: number,
): Promise<NativeTensor> {
  const { headDim } = config;
  const invFreq = binding.tensor(device, 'f32', [headDim / 2], 'row_major');
  const table = binding.tensor(device, 'f32', [positions, headDim], 'row_major', 'ropeTable');
  invFreq.writeFloats(inverseFrequencies(config));
  await device.run('rope_table', { invFreq, table }, {});
  invFreq.dispose();
  return table;
}

function checkOptions({ device, dtype, weightDtype, activationDtype, kvCacheDtype }: LoadOptions): void {
  const oneOf = (name: string, value: unknown, allowed: readonly unknown[]) => {
    if (allowed.includes(value)) return;
    const list = allowed.filter((item) => item !== undefined).join(', ');
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected one of ${list} for ${name} but received ${value}`);
  };
  parseDevice(device);
  oneOf('dtype', dtype, ['auto', 'f32', 'bf16']);
  oneOf('weightDtype', weightDtype, [undefined, ...weightDTypes]);
  oneOf('activationDtype', activationDtype, [undefined, ...activationDTypes]);
  oneOf('kvCacheDtype', kvCacheDtype, [undefined, 'f32', 'bf16', 'fp8']);
}

function describe(
  source: string,
  model: ModelSource,
  sizes: Sizes,
  chosen: { opened: OpenedBackend; options: LoadOptions; bytesPerToken: number },
): ModelInfo {
  const { config, plan, staticScales } = model;
  const { backend, level, threads, info } = chosen.opened;
  const { batchInvariant = true, activationDtype } = chosen.options;
  const fixed = staticScales.filter((scales) => scales !== null).length;
  const fp8Scales = fixed === 0 ? 'dynamic' : fixed === numDistinctCaches(config) ? 'checkpoint' : 'mixed';
  return {
    source,
    config,
    mode: model.mode,
    backend,
    level,
    threads,
    device: info,
    batchInvariant,
    dtype: plan.dtype,
    checkpointDtypes: plan.sourceDTypes.map(dtypeName),
    weightDtypes: plan.matrixDTypes.map(dtypeName),
    activationDtype: activationDtype === 'fp8' ? 'fp8' : plan.dtype,
    kvCacheDtype: model.kvCacheDtype,
    kvScales: model.kvCacheDtype === 'fp8' ? fp8Scales : 'none',
    numDistinctCaches: numDistinctCaches(config),
    kvBytesPerToken: chosen.bytesPerToken,
    numBlocks: sizes.numBlocks,
    blockTokens,
    maxModelLen: sizes.maxModelLen,
    maxRows: sizes.capacity.maxRows,
    maxSeqs: sizes.capacity.maxSeqs,
    maxLogitRows: sizes.capacity.maxLogitRows,
    bytes: {
      weights: plan.packedBytes,
      kvPool: sizes.kvPoolBytes,
      workspace: 0,
      ropeTable: sizes.ropeTableBytes,
      total: 0,
    },
    notes: model.notes,
  };
}
