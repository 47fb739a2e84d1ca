// The small models that come with the package, and the data to evaluate them on.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { SwiftKVError } from '../errors.ts';

export const embeddedModels = ['base', 'swiftkv-50', 'swiftkv-50-g4'] as const;

const prefix = 'embedded:';

/** Folder of the package's models: beside lib/ in a checkout and beside dist/ in an installed package. */
const modelsFolder = fileURLToPath(new URL('../../models/', import.meta.url));

/** `embedded:NAME` as the folder it stands for; anything else unchanged. @throws ERR_MODEL_NOT_FOUND */
export function resolveModel(source: string): string {
  if (!source.startsWith(prefix)) return source;
  const name = source.slice(prefix.length);
  const folder = modelsFolder + name;
  if (!(embeddedModels as readonly string[]).includes(name) || !existsSync(folder)) {
    throw new SwiftKVError(
      'ERR_MODEL_NOT_FOUND',
      `There is no embedded model ${JSON.stringify(name)}. Expected one of ${embeddedModels.join(', ')}.`,
    );
  }
  return folder;
}

/** Prose that demonstrations hide facts in. */
export const proseFile = `${modelsFolder}prose.txt`;

export const embeddedData = { heldout: 'heldout.txt', recall: 'recall.jsonl' } as const;

/** `embedded:NAME` as the evaluation file it stands for; anything else unchanged. @throws ERR_IO */
export function resolveData(file: string): string {
  if (!file.startsWith(prefix)) return file;
  const name = file.slice(prefix.length);
  if (!Object.hasOwn(embeddedData, name)) {
    throw new SwiftKVError(
      'ERR_IO',
      `There is no embedded data ${JSON.stringify(name)}. Expected one of ${Object.keys(embeddedData).join(', ')}.`,
    );
  }
  return `${modelsFolder}eval/${embeddedData[name as keyof typeof embeddedData]}`;
}
