// Reads the sampling defaults that a model folder comes with.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { SamplingDefaults } from '../engine/types.ts';
import { SwiftKVError } from '../errors.ts';
import { samplingDefaults } from './options.ts';

/**
 * @param folders searched in order: the model's own folder, then its base's
 * @throws ERR_MODEL_INVALID, ERR_IO
 */
export async function loadSamplingDefaults(folders: readonly string[]): Promise<SamplingDefaults> {
  for (const folder of folders) {
    const path = join(folder, 'generation_config.json');
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'ENOENT' || code === 'ENOTDIR') continue;
      throw new SwiftKVError('ERR_IO', `Reading ${path} failed: ${String(error)}`, { cause: error });
    }
    return samplingDefaults(parse(text, path), path);
  }
  return samplingDefaults(null, '');
}

function parse(text: string, path: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch (error) {
    throw new SwiftKVError('ERR_MODEL_INVALID', `${path} is not JSON: ${String(error)}`, { cause: error });
  }
  throw new SwiftKVError('ERR_MODEL_INVALID', `Expected ${path} to be a JSON object`);
}
