// Files as a stream of batches.

import { SwiftKVError } from '../../errors.ts';
import type { ModelConfig } from '../../model/config.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import { type DataState, DataStream, type StreamOptions } from './packer.ts';
import type { TokenCache } from './token-cache.ts';
import { loadDocuments, type TokenDocuments } from './tokenize.ts';

/** A .txt or .jsonl file, and its share of all tokens relative to the other files (default: its own tokens). */
export interface DataFile {
  path: string;
  weight?: number | undefined;
}

export interface DataOptions extends StreamOptions {
  /** The id that ends a document; default the lowest of the model's end-of-sequence ids; null: none. */
  endId?: number | null | undefined;
  /** Keeps tokens from one run to the next, since tokenizing takes minutes. Default: nowhere. */
  cache?: TokenCache | undefined;
  onProgress?: ((file: string, documents: number, total: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface TrainingData {
  stream: DataStream;
  files: { path: string; sha256: string; documents: number; tokens: number; answerTokens: number }[];
}

/** `PATH`, or `PATH=WEIGHT` as on the command line. @throws ERR_INVALID_ARGUMENT */
export function parseDataFile(text: string): DataFile {
  const match = /^(.+)=([^=/\\]*)$/.exec(text);
  if (match === null) return { path: text };
  const weight = Number(match[2]);
  if (match[2] === '' || !(weight > 0 && Number.isFinite(weight))) {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', `${text}: expected FILE or FILE=WEIGHT with a weight above 0`);
  }
  return { path: match[1]!, weight };
}

/**
 * Reads and tokenizes training files.
 * @param state goes on from there: the batches are those that would have followed
 * @throws ERR_IO, ERR_INVALID_ARGUMENT with file and line, ERR_CHAT_TEMPLATE, ERR_ABORTED
 */
export async function openData(
  files: readonly DataFile[],
  tokenizer: Tokenizer,
  config: Pick<ModelConfig, 'vocabSize' | 'eosTokenIds'>,
  options: DataOptions,
  state: DataState | null = null,
): Promise<TrainingData> {
  const { endId = config.eosTokenIds[0] ?? null, cache, onProgress, signal, ...stream } = options;
  const loaded: TokenDocuments[] = [];
  for (const { path } of files) {
    const progress = onProgress && ((documents: number, total: number) => onProgress(path, documents, total));
    loaded.push(
      await loadDocuments(path, tokenizer, { endId, vocabSize: config.vocabSize, onProgress: progress, cache, signal }),
    );
  }
  const sources = loaded.map((documents, i) => ({ ...documents, name: documents.file, weight: files[i]!.weight }));
  return {
    stream: state === null ? new DataStream(sources, stream) : DataStream.restore(sources, stream, state),
    files: loaded.map(({ file, sha256, ids, starts, answers }) => ({
      path: file,
      sha256,
      documents: starts.length - 1,
      tokens: ids.length,
      answerTokens: answers.reduce((sum, answer) => sum + answer, 0),
    })),
  };
}
