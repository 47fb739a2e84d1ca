// Loads as many variants as memory has room for; those are measured in turns. The first variant is in every group, so
// that every ratio is of one run.

import { SwiftKVError } from '../../errors.ts';
import type { ModelInfo } from '../../model/model-info.ts';
import type { Variant } from './latency-variants.ts';

/** What was loaded of a variant. */
export interface LoadedVariant {
  readonly variant: Variant;
  info(): ModelInfo;
  dispose(): Promise<void>;
}

export interface LeftOut {
  model: string;
  variant: string;
  reason: string;
}

export interface GroupOptions<Loaded extends LoadedVariant> {
  /** Bytes that the models of a group take together at most. */
  memoryBytes: number;
  load: (variant: Variant) => Promise<Loaded>;
}

/**
 * Calls `measure` with one group after the other; the models are disposed of afterwards.
 * @returns the variants that did not fit beside the first one
 * @throws when the first variant cannot be loaded, or another for a reason other than memory
 */
export async function forEachGroup<Loaded extends LoadedVariant>(
  variants: readonly Variant[],
  options: GroupOptions<Loaded>,
  measure: (models: readonly Loaded[], group: number) => Promise<void>,
): Promise<LeftOut[]> {
  const leftOut: LeftOut[] = [];
  const [first, ...waiting] = variants;
  if (first === undefined) return leftOut;
  const base = await options.load(first);
  try {
    let group = 0;
    do {
      group++;
      const models = [base];
      try {
        await fillGroup(models, waiting, options, leftOut);
        // The others of the first group may all have been left out; a later group without any has nothing to say.
        if (group === 1 || models.length > 1) await measure(models, group);
      } finally {
        for (const model of models.slice(1)) await model.dispose();
      }
    } while (waiting.length > 0);
  } finally {
    await base.dispose();
  }
  return leftOut;
}

/** Takes variants from `waiting` while they fit; one that does not fit beside the base alone is left out. */
async function fillGroup<Loaded extends LoadedVariant>(
  models: Loaded[],
  waiting: Variant[],
  options: GroupOptions<Loaded>,
  leftOut: LeftOut[],
): Promise<void> {
  while (waiting.length > 0) {
    const sizes = models.map((model) => model.info().bytes.total);
    const used = sizes.reduce((sum, bytes) => sum + bytes, 0);
    // The next one takes about as much as the largest so far.
    const fits = used + Math.max(...sizes) <= options.memoryBytes;
    if (!fits && models.length > 1) return;
    const variant = waiting[0]!;
    if (fits) {
      try {
        models.push(await options.load(variant));
        waiting.shift();
        continue;
      } catch (error) {
        if (!SwiftKVError.is(error) || error.code !== 'ERR_OUT_OF_MEMORY') throw error;
        if (models.length > 1) return;
        leftOut.push({ model: variant.model, variant: variant.name, reason: error.message });
      }
    } else {
      const reason = `does not fit into --memory beside ${models[0]!.variant.source}`;
      leftOut.push({ model: variant.model, variant: variant.name, reason });
    }
    waiting.shift();
  }
}
