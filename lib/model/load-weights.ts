// Weights into native memory: allocate what the plan says, then read the files into it.

import { setImmediate } from 'node:timers/promises';
import type { NativeBinding, NativeDevice, NativeTensor } from '../native/binding.ts';
import { abortError } from './abort.ts';
import type { PlannedSegment, PlannedTensor } from './weight-plan.ts';
import type { WeightKey } from './weights.ts';

export type Weights = Map<WeightKey, NativeTensor>;

export interface WeightProgress {
  phase: 'weights';
  loadedBytes: number;
  totalBytes: number;
}

export interface WeightLoadOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: WeightProgress) => void) | undefined;
}

/** Milliseconds between calls of onProgress. */
const progressInterval = 100;

/** Zeroed memory for every tensor, resident once it is written; the event loop gets a turn after each. */
export async function allocateWeights(
  binding: NativeBinding,
  device: NativeDevice,
  tensors: readonly PlannedTensor[],
  signal?: AbortSignal,
): Promise<Weights> {
  const weights: Weights = new Map();
  for (const { key, dtype, shape, layout } of tensors) {
    if (signal?.aborted) throw abortError(signal);
    weights.set(key, binding.tensor(device, dtype, shape, layout, 'weights'));
    await setImmediate();
  }
  return weights;
}

/** Reads the segments, off the JavaScript thread. onProgress is called at the end at the latest. */
export async function readWeights(
  binding: NativeBinding,
  device: NativeDevice,
  segments: readonly PlannedSegment[],
  sourceBytes: number,
  weights: Weights,
  { signal, onProgress }: WeightLoadOptions,
): Promise<void> {
  if (signal?.aborted) throw abortError(signal);
  const load = binding.loadWeights(
    device,
    segments.map(({ key, ...segment }) => ({ ...segment, dst: weights.get(key)! })),
  );
  const cancel = () => load.cancel();
  signal?.addEventListener('abort', cancel, { once: true });
  const report = () => onProgress?.({ phase: 'weights', loadedBytes: load.loadedBytes, totalBytes: sourceBytes });
  const timer = setInterval(report, progressInterval);
  try {
    await load.promise;
    report();
  } catch (error) {
    throw signal?.aborted ? abortError(signal) : error;
  } finally {
    clearInterval(timer);
    signal?.removeEventListener('abort', cancel);
  }
}
