// Writes a model as one self-contained Hugging Face folder: a SwiftKV variant and its base become one checkpoint.

import { openModel } from '../model/open-model.ts';
import { baseKey } from './checkpoint.ts';
import { companionsOf, storedTensor, writeModelFolder } from './write-folder.ts';

/**
 * Writes config.json (without `swiftkv_base`), all tensors merged in their stored dtypes (the teacher's projections of
 * later layers included, as published checkpoints have them), generation_config.json and the tokenizer's files; weights
 * above 5 GB in shards with an index. `outDir` must not exist or be empty; it appears complete or not at all.
 * @throws ERR_INVALID_ARGUMENT when outDir has contents, ERR_ABORTED, ERR_IO, and what opening a model throws
 */
export async function exportModel(dir: string, outDir: string, options: { signal?: AbortSignal } = {}): Promise<void> {
  const { checkpoint } = await openModel(dir);
  const { [baseKey]: _, ...config } = checkpoint.config;
  const tensors = [...checkpoint.tensors].map(([name, tensor]) => storedTensor(name, tensor, options.signal));
  await writeModelFolder(outDir, { config, ...companionsOf(checkpoint), tensors }, { signal: options.signal });
}
