// The worker thread that tokenizes long texts. Started on first use, with the tokenizer's files as workerData.

import { parentPort, workerData } from 'node:worker_threads';
import { type ErrorCode, toSwiftKVError } from '../errors.ts';
import { type TokenizerConfigJson, Vocabulary } from './vocabulary.ts';

export interface WorkerData {
  tokenizerJson: string;
  config: TokenizerConfigJson;
  where: string;
}

export interface EncodeRequest {
  key: number;
  text: string;
  addSpecialTokens: boolean;
}

export type EncodeReply = { key: number; ids: Int32Array } | { key: number; code: ErrorCode; error: string };

const data = workerData as WorkerData;
const vocabulary = new Vocabulary(JSON.parse(data.tokenizerJson) as object, data.config, data.where);

parentPort?.on('message', ({ key, text, addSpecialTokens }: EncodeRequest) => {
  try {
    const ids = vocabulary.encode(text, addSpecialTokens);
    parentPort?.postMessage({ key, ids } satisfies EncodeReply, [ids.buffer as ArrayBuffer]);
  } catch (error) {
    const { code, message } = toSwiftKVError(error);
    parentPort?.postMessage({ key, code, error: message } satisfies EncodeReply);
  }
});
