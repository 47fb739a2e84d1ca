// What `bench latency` compares: forms of a model, written as PART+PART, e.g. kv50%/4+cache=fp8.

import { SwiftKVError } from '../../errors.ts';
import { parseRandomModel, randomPrefix } from '../../model/random.ts';
import { type ActivationDType, activationDTypes, type WeightDType, weightDTypes } from '../../model/weight-dtype.ts';

export interface Variant {
  /** The model and the form of it, as they were asked for. */
  model: string;
  name: string;
  /** What Engine.load takes. */
  source: string;
  dtype?: 'f32' | 'bf16';
  kvCacheDtype?: 'f32' | 'bf16' | 'fp8';
  weightDtype?: WeightDType;
  activationDtype?: ActivationDType;
}

/** Compared unless others are asked for. The first one is what the others are compared with. */
export const defaultVariants = [
  'plain',
  'kv25%',
  'kv50%',
  'kv62.5%',
  'kv50%/2',
  'kv50%/4',
  'plain+cache=fp8',
  'kv50%/4+cache=fp8',
  'plain+weights=fp8',
  'plain+weights=int8',
  'plain+weights=int4',
] as const;

/** Of models whose layers are what they are. */
export const defaultFixedVariants = ['plain', 'plain+cache=fp8'] as const;

const options = {
  dtype: { field: 'dtype', values: ['f32', 'bf16'] },
  cache: { field: 'kvCacheDtype', values: ['f32', 'bf16', 'fp8'] },
  weights: { field: 'weightDtype', values: weightDTypes },
  activations: { field: 'activationDtype', values: activationDTypes },
} as const;

const grammar = `plain or kvN%[/GROUP], then any of ${Object.entries(options)
  .map(([name, { values }]) => `+${name}=${values.join('|')}`)
  .join(' ')}`;

export const isFixed = (model: string): boolean =>
  !model.startsWith(randomPrefix) || new URLSearchParams(model.split('?')[1] ?? '').has('kv-layers');

export function variantsOf(model: string, asked: readonly string[] | undefined): Variant[] {
  const names = asked ?? (isFixed(model) ? defaultFixedVariants : defaultVariants);
  return names.map((name) => parseVariant(model, name));
}

/**
 * `plain` is the model as it is named.
 * @throws ERR_INVALID_ARGUMENT
 */
export function parseVariant(model: string, name: string): Variant {
  const [form = '', ...parts] = name.split('+');
  const variant: Variant = { model, name, source: formOf(model, form, name) };
  for (const part of parts) {
    const [key = '', value = ''] = part.split('=', 2);
    const option = Object.hasOwn(options, key) ? options[key as keyof typeof options] : undefined;
    if (option === undefined || !(option.values as readonly string[]).includes(value)) throw wrong(name, grammar);
    Object.assign(variant, { [option.field]: value });
  }
  return variant;
}

function formOf(model: string, form: string, name: string): string {
  if (form === 'plain') return model;
  const [, percent, group] = /^kv(\d+(?:\.\d+)?%)(?:\/(\d+))?$/.exec(form) ?? [];
  if (percent === undefined) throw wrong(name, grammar);
  if (isFixed(model)) {
    throw wrong(name, `plain for ${model}, whose layers are given; only random:NAME takes other numbers of KV layers`);
  }
  const source = `${model}${model.includes('?') ? '&' : '?'}kv-layers=${percent}${group === undefined ? '' : `&group=${group}`}`;
  parseRandomModel(source);
  return source;
}

function wrong(name: string, expected: string): SwiftKVError {
  return new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected ${expected} for a variant but received ${name}`);
}
