// What a load starts from, checked and counted but with no memory taken yet: a folder, or a shape with random weights.

import type { JsonObject } from '../checkpoint/json.ts';
import { SwiftKVError } from '../errors.ts';
import { architectures } from './architectures.ts';
import type { ModelConfig } from './config.ts';
import type { ComputeDType } from './forward.ts';
import { type KvCacheDType, readStaticScales, type StaticScales } from './kv-cache.ts';
import { openModel } from './open-model.ts';
import { type ModelMode, modelMode } from './parse-config.ts';
import { parseRandomModel, type RandomModel, randomPrefix } from './random.ts';
import { type ActivationDType, dtypeName, quantizedDType, type WeightDType } from './weight-dtype.ts';
import { matrixDTypesOf, planTensor, planWeights, type WeightPlan } from './weight-plan.ts';

export interface ModelSource {
  config: ModelConfig;
  mode: ModelMode;
  plan: WeightPlan;
  kvCacheDtype: KvCacheDType;
  /** By cache; empty unless the cache is fp8. */
  staticScales: (StaticScales | null)[];
  tokenizerDir: string | null;
  generationConfig: JsonObject | null;
  random: RandomModel | null;
  notes: string[];
}

/** The dtypes of a load. */
export interface SourceOptions {
  dtype: 'auto' | ComputeDType;
  weightDtype: WeightDType;
  activationDtype: ActivationDType;
  kvCacheDtype?: KvCacheDType | undefined;
}

export async function openSource(source: string, options: SourceOptions): Promise<ModelSource> {
  const model = source.startsWith(randomPrefix) ? openRandom(source, options) : await openFolder(source, options);
  if (options.activationDtype === 'fp8') requireFp8(model.plan);
  return model;
}

/** Activations become FP8 only where the weights are. The head takes the compute dtype either way. */
function requireFp8(plan: WeightPlan): void {
  const other = plan.tensors.find(
    ({ key, layout, dtype }) => layout === 'panels' && key !== 'head' && dtype !== 'fp8_e4m3',
  );
  if (other === undefined) return;
  throw new SwiftKVError(
    'ERR_INVALID_ARGUMENT',
    `activationDtype fp8 needs FP8 weights, but ${other.key} is kept in ${other.dtype}; ` +
      'use an FP8 checkpoint or weightDtype fp8',
  );
}

async function openFolder(source: string, options: SourceOptions): Promise<ModelSource> {
  const { dtype, weightDtype, kvCacheDtype } = options;
  const { checkpoint, config } = await openModel(source);
  const targets = architectures.get(config.modelType)!.weights(config);
  const plan = planWeights(targets, checkpoint.tensors, dtype, checkpoint.dir, weightDtype);
  const cacheDType = kvCacheDtype ?? plan.dtype;
  const staticScales = cacheDType === 'fp8' ? await readStaticScales(config, checkpoint.tensors) : [];
  return {
    config,
    mode: modelMode(checkpoint.config),
    plan,
    kvCacheDtype: cacheDType,
    staticScales,
    tokenizerDir: checkpoint.tokenizerDir,
    generationConfig: checkpoint.generationConfig,
    random: null,
    notes: notesOf(
      plan,
      staticScales.some((scales) => scales !== null),
    ),
  };
}

function openRandom(source: string, { dtype, weightDtype, kvCacheDtype }: SourceOptions): ModelSource {
  const random = parseRandomModel(source);
  const { config } = random;
  const compute = dtype === 'auto' ? 'bf16' : dtype;
  const targets = [...architectures.get(config.modelType)!.weights(config)];
  const tensors = targets.map((target) =>
    planTensor(target, compute, quantizedDType(target.key, compute, weightDtype)),
  );
  const packedBytes = tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
  return {
    config,
    mode: config.modelType === 'llama' ? 'plain' : 'student',
    plan: {
      dtype: compute,
      tensors,
      segments: [],
      packedBytes,
      sourceBytes: 0,
      sourceDTypes: [],
      matrixDTypes: matrixDTypesOf(tensors),
      unused: [],
    },
    kvCacheDtype: kvCacheDtype ?? compute,
    staticScales: [],
    tokenizerDir: null,
    generationConfig: null,
    random,
    notes: [`random weights of the shape ${source.slice(randomPrefix.length)}: the answers mean nothing`],
  };
}

function notesOf({ dtype, sourceDTypes, matrixDTypes, unused }: WeightPlan, scalesUsed: boolean): string[] {
  const notes: string[] = [];
  const floats = sourceDTypes.filter((source) => source !== 'fp8_e4m3');
  const rounded = floats.filter((source) => dtype === 'bf16' && source !== 'bf16');
  if (rounded.length > 0 && matrixDTypes.includes('bf16')) {
    notes.push(`matrices stored as ${rounded.join(' and ')} were rounded to bf16`);
  }
  const quantized = matrixDTypes.filter((kept) => !['f32', 'bf16', ...sourceDTypes].includes(kept)).map(dtypeName);
  if (quantized.length > 0) {
    notes.push(`matrices stored as ${floats.join(' and ')} were quantized to ${quantized.join(' and ')} at load`);
  }
  const isTeacher = (name: string) => /\.self_attn\.([qkv]_proj\.(weight|bias)|[qk]_norm\.weight)$/.test(name);
  const teacher = unused.filter(isTeacher).length;
  if (teacher > 0) notes.push(`${teacher} teacher tensors of later layers were not loaded`);
  const others = unused.filter((name) => !isTeacher(name) && !(scalesUsed && name.endsWith('_scale')));
  if (others.length > 0) {
    const names = others.length > 3 ? `${others.slice(0, 3).join(', ')}, ...` : others.join(', ');
    notes.push(`tensors that this model does not use were not loaded: ${names}`);
  }
  return notes;
}
