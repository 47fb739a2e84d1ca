// A plain checkpoint becomes a SwiftKV one: what distillation starts from.

import { resolve } from 'node:path';
import { requireEmptyFolder, tensorBytes } from '../checkpoint/write-folder.ts';
import type { ModelConfig } from '../model/config.ts';
import { openBase, parseLayout, type SwiftKVLayout, studentConfig } from './base-model.ts';
import { initialPieces, planInitialTensors } from './swiftkv-init.ts';
import { writeStudent } from './write-checkpoint.ts';

export interface ConvertOptions {
  /** Layers that keep their own K and V: a count, or a share of all layers such as `50%`. */
  kvLayers: number | string;
  /** Later layers that share one cache (AcrossKV). Default 1. */
  groupSize?: number | undefined;
  /** The folder to write; it must not exist or be empty. */
  out: string;
  /**
   * Write only SwiftKV's own tensors, and a config that names the base. Default: for an embedded base, which is always at
   * hand; any other becomes one whole checkpoint.
   */
  variant?: boolean | undefined;
  /** Bytes of tensors in one file at most; above, there are shards and an index. Default 5 GB. */
  maxShardBytes?: number | undefined;
  signal?: AbortSignal | undefined;
}

export interface Conversion extends SwiftKVLayout {
  /** Absolute. */
  dir: string;
  config: ModelConfig;
  variant: boolean;
  /** SwiftKV's own tensors. */
  addedTensors: number;
  addedBytes: number;
}

/**
 * Writes a SwiftKV checkpoint of a plain model: its norm from the input norm of the first later layer, queries copied,
 * keys and values of each group the mean over its layers in the dtype they are stored in. Streams: memory holds some MiB
 * of it. The folder appears complete or not at all.
 * @param base a Hugging Face folder or embedded:NAME
 * @throws ERR_INVALID_ARGUMENT (counts, a base that is SwiftKV already, a folder with contents), ERR_MODEL_UNSUPPORTED
 * (quantized weights), ERR_IO (a full disk), ERR_ABORTED, and what opening a model throws
 */
export async function convertModel(base: string, options: ConvertOptions): Promise<Conversion> {
  const model = await openBase(base);
  const layout = parseLayout(model.config, options.kvLayers, options.groupSize ?? 1);
  const { out, maxShardBytes, signal } = options;
  const dir = resolve(out);
  await requireEmptyFolder(dir);
  const variant = options.variant ?? base.startsWith('embedded:');
  const tensors = planInitialTensors(model, layout).map((tensor) => {
    const { name, dtype, shape } = tensor;
    return { name, dtype, shape, data: initialPieces(tensor, signal) };
  });
  await writeStudent(dir, model, layout, tensors, { variant, maxShardBytes, signal });
  return {
    ...layout,
    dir,
    config: studentConfig(model, layout),
    variant,
    addedTensors: tensors.length,
    addedBytes: tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0),
  };
}
