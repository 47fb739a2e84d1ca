// config.json and generation_config.json -> ModelConfig. The only place that knows both files.

import type { JsonObject } from '../checkpoint/json.ts';
import { architectures } from './architectures.ts';
import type { ModelConfig } from './config.ts';
import { ConfigReader } from './config-reader.ts';
import { isSwiftkvType } from './decoder-config.ts';
import { checkQuantization } from './quantization.ts';

/** `student`: SwiftKV on. `teacher`: a SwiftKV checkpoint run as the plain model that it was distilled from. */
export type ModelMode = 'plain' | 'student' | 'teacher';

/** Files named in errors. */
export interface ConfigFiles {
  config: string;
  generation: string;
}

const defaultFiles: ConfigFiles = { config: 'config.json', generation: 'generation_config.json' };

/**
 * Normalises a config: both spellings, defaults filled in, contradictions refused.
 * @throws ERR_MODEL_INVALID (field, value, expected), ERR_MODEL_UNSUPPORTED (the feature by name)
 */
export function parseConfig(json: JsonObject, generation: JsonObject | null = null, files = defaultFiles): ModelConfig {
  const r = new ConfigReader(json, files.config);
  const modelType = r.string('model_type');
  const architecture = architectures.get(modelType);
  if (architecture === undefined) {
    const known = [...architectures.keys()].join(', ');
    return r.unsupported('model_type', `${reason(modelType)}expected one of ${known}`);
  }
  checkQuantization(r);
  const parsed = architecture.parseConfig(r);
  const g = new ConfigReader(generation ?? {}, files.generation);
  for (const reader of [r, g]) refuseUnknownIds(reader, parsed.vocabSize);
  const base = r.json['swiftkv_base'];
  return {
    ...parsed,
    bosTokenId: firstId(r.tokenIds('bos_token_id') ?? g.tokenIds('bos_token_id'), architecture.bosTokenId),
    eosTokenIds: mergeEos(r.tokenIds('eos_token_id'), g.tokenIds('eos_token_id'), architecture.eosTokenId),
    base: typeof base === 'string' ? base : null,
  };
}

export function modelMode(json: JsonObject): ModelMode {
  if (!isSwiftkvType(String(json['model_type']))) return 'plain';
  return json['swiftkv'] === false ? 'teacher' : 'student';
}

/** What families that are asked for often have and swiftkv does not. */
function reason(modelType: string): string {
  if (modelType.startsWith('deepseek')) return 'multi-head latent attention (MLA) is not supported; ';
  if (/moe|mixtral/.test(modelType)) return 'mixture-of-experts layers (MoE) are not supported; ';
  return '';
}

/** An id that the model cannot produce would never end an answer. */
function refuseUnknownIds(r: ConfigReader, vocabSize: number): void {
  for (const field of ['bos_token_id', 'eos_token_id']) {
    if (r.tokenIds(field)?.some((id) => id >= vocabSize)) r.invalid(field, `ids below vocab_size (${vocabSize})`);
  }
}

function firstId(ids: number[] | null, fallback: number | null): number | null {
  return ids === null ? fallback : (ids[0] ?? null);
}

/** What either file names ends an answer; the family's default counts only where both are silent. */
function mergeEos(config: number[] | null, generation: number[] | null, fallback: number | null): number[] {
  if (config === null && generation === null) return fallback === null ? [] : [fallback];
  return [...new Set([...(config ?? []), ...(generation ?? [])])].sort((a, b) => a - b);
}
