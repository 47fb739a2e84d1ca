// What a load starts from, checked and counted but with no memory taken yet: a folder, or a shape with random weights.

import type { JsonObject } from '../checkpoint/json.ts';
import { architectures } from './architectures.ts';
import type { ModelConfig } from './config.ts';
import type { ComputeDType } from './forward.ts';
import { type KvCacheDType, readStaticScales, type StaticScales } from './kv-cache.ts';
import { openModel } from './open-model.ts';
import { type ModelMode, modelMode } from './parse-config.ts';
import { parseRandomModel, type RandomModel, randomPrefix } from './random.ts';
import { planTensor, planWeights, type WeightPlan } from './weight-plan.ts';

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

export async function openSource(
  source: string,
  dtype: 'auto' | ComputeDType,
  kvCacheDtype: KvCacheDType | undefined,
): Promise<ModelSource> {
  if (source.startsWith(randomPrefix)) return openRandom(source, dtype, kvCacheDtype);
  const { checkpoint, config } = await openModel(source);
  const targets = architectures.get(config.modelType)!.weights(config);
  const plan = planWeights(targets, checkpoint.tensors, dtype, checkpoint.dir);
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

function openRandom(source: string, dtype: 'auto' | ComputeDType, kvCacheDtype: KvCacheDType | undefined): ModelSource {
  const random = parseRandomModel(source);
  const { config } = random;
  const compute = dtype === 'auto' ? 'bf16' : dtype;
  const targets = [...architectures.get(config.modelType)!.weights(config)];
  const tensors = targets.map((target) => planTensor(target, compute));
  const packedBytes = tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
  return {
    config,
    mode: config.modelType === 'llama' ? 'plain' : 'student',
    plan: { dtype: compute, tensors, segments: [], packedBytes, sourceBytes: 0, sourceDTypes: [], unused: [] },
    kvCacheDtype: kvCacheDtype ?? compute,
    staticScales: [],
    tokenizerDir: null,
    generationConfig: null,
    random,
    notes: [`random weights of the shape ${source.slice(randomPrefix.length)}: the answers mean nothing`],
  };
}

function notesOf({ dtype, sourceDTypes, unused }: WeightPlan, scalesUsed: boolean): string[] {
  const notes: string[] = [];
  const rounded = sourceDTypes.filter((source) => dtype === 'bf16' && source !== 'bf16');
  if (rounded.length > 0) notes.push(`matrices stored as ${rounded.join(' and ')} were rounded to bf16`);
  const isTeacher = (name: string) => /\.self_attn\.[qkv]_proj\.(weight|bias)$/.test(name);
  const teacher = unused.filter(isTeacher).length;
  if (teacher > 0) notes.push(`${teacher} teacher projections of later layers were not loaded`);
  const others = unused.filter((name) => !isTeacher(name) && !(scalesUsed && name.endsWith('_scale')));
  if (others.length > 0) {
    const names = others.length > 3 ? `${others.slice(0, 3).join(', ')}, ...` : others.join(', ');
    notes.push(`tensors that this model does not use were not loaded: ${names}`);
  }
  return notes;
}
