// Tokenized files on disk: tokenizing takes minutes for what reading takes a second. An entry belongs to the bytes of the
// file, of the tokenizer and to the options; one that cannot be read is made again.

import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { readRange } from '../../checkpoint/files.ts';
import { readSafetensorsHeader } from '../../checkpoint/safetensors.ts';
import { writeSafetensors } from '../../checkpoint/write-safetensors.ts';
import type { TokenDocuments, TokenizeOptions } from './tokenize.ts';

export interface TokenCache {
  /** Where entries are; made when the first is written. */
  dir: string;
  /** The folder of the tokenizer. */
  tokenizerDir: string;
}

/** Goes up when the same file would give other tokens. */
const version = 1;

/** What decides the tokens beside the training file. */
const tokenizerFiles = ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'];

export async function cachePath(
  { dir, tokenizerDir }: TokenCache,
  fileHash: string,
  { endId, vocabSize }: Pick<TokenizeOptions, 'endId' | 'vocabSize'>,
): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify({ version, fileHash, endId, vocabSize }));
  for (const name of tokenizerFiles) {
    const bytes = await readFile(join(tokenizerDir, name)).catch(() => Buffer.alloc(0));
    hash.update(createHash('sha256').update(bytes).digest());
  }
  return join(dir, `${hash.digest('hex').slice(0, 32)}.safetensors`);
}

type Arrays = Pick<TokenDocuments, 'ids' | 'answers' | 'starts' | 'hasAnswers'>;

/** null: there is no such entry, or none that is whole. */
export async function readCache(path: string): Promise<Arrays | null> {
  try {
    const tensors = await readSafetensorsHeader(path);
    const bytes = async (name: string) => {
      const { offset, byteLength } = tensors.get(name)!;
      return readRange(path, offset, byteLength);
    };
    const integers = async (name: string) => new Int32Array((await bytes(name)).buffer);
    return {
      ids: await integers('ids'),
      answers: await bytes('answers'),
      starts: await integers('starts'),
      hasAnswers: await bytes('has_answers'),
    };
  } catch {
    return null;
  }
}

/** A cache that cannot be written costs time, not the run: a failure is passed over. */
export async function writeCache(path: string, { ids, answers, starts, hasAnswers }: Arrays): Promise<void> {
  const temporary = `${path}.${randomUUID()}`;
  const view = (array: Int32Array | Uint8Array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  try {
    await mkdir(join(path, '..'), { recursive: true });
    await writeSafetensors(temporary, [
      { name: 'ids', dtype: 'I32', shape: [ids.length], data: view(ids) },
      { name: 'answers', dtype: 'U8', shape: [answers.length], data: view(answers) },
      { name: 'starts', dtype: 'I32', shape: [starts.length], data: view(starts) },
      { name: 'has_answers', dtype: 'U8', shape: [hasAnswers.length], data: view(hasAnswers) },
    ]);
    await rename(temporary, path);
  } catch {
    await rm(temporary, { force: true }).catch(() => {});
  }
}
