// Requests from a JSONL file: {"prompt": TEXT} or {"tokenIds": [...]}, each with "maxTokens".

import { readFile } from 'node:fs/promises';
import { openCheckpoint } from '../../checkpoint/checkpoint.ts';
import { SwiftKVError } from '../../errors.ts';
import { resolveModel } from '../../model/embedded.ts';
import { randomPrefix } from '../../model/random.ts';
import { loadTokenizer } from '../../tokenizer/load.ts';
import type { WorkItem } from './workload.ts';

/** A line of the file. */
export interface FileRequest {
  prompt: string | readonly number[];
  maxTokens: number;
}

/**
 * The requests of a file; texts in tokens of the model's tokenizer, a BOS included where it adds one.
 * @throws ERR_IO, ERR_INVALID_ARGUMENT naming the line, ERR_NO_TOKENIZER
 */
export async function fileWorkload(file: string, model: string): Promise<WorkItem[]> {
  const text = await readFile(file, 'utf8').catch((cause) => {
    throw new SwiftKVError('ERR_IO', `Reading ${file} failed: ${cause.message}`, { cause });
  });
  const requests = parseRequests(text, file);
  if (requests.every(({ prompt }) => typeof prompt !== 'string')) return requests.map((r) => workItem(r, r.prompt));
  const folders = model.startsWith(randomPrefix) ? [] : [(await openCheckpoint(resolveModel(model))).tokenizerDir];
  const tokenizer = await loadTokenizer(folders);
  if (tokenizer === null) {
    throw new SwiftKVError(
      'ERR_NO_TOKENIZER',
      `${model} has no tokenizer: give tokenIds in ${file} instead of prompts`,
    );
  }
  try {
    const items: WorkItem[] = [];
    for (const request of requests) {
      const { prompt } = request;
      const ids = typeof prompt === 'string' ? await tokenizer.encode(prompt, { addSpecialTokens: true }) : prompt;
      items.push(workItem(request, ids));
    }
    return items;
  } finally {
    await tokenizer.dispose();
  }
}

/** @throws ERR_INVALID_ARGUMENT naming the line */
export function parseRequests(text: string, file: string): FileRequest[] {
  const requests: FileRequest[] = [];
  for (const [i, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    const refuse = (expected: string, received: string): never => {
      throw new SwiftKVError('ERR_INVALID_ARGUMENT', `${file}:${i + 1}: expected ${expected} but received ${received}`);
    };
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (error) {
      refuse('a JSON object', `something else: ${(error as Error).message}`);
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse('a JSON object', line.slice(0, 80));
    const { prompt, tokenIds, maxTokens } = value as Record<string, unknown>;
    if ((prompt === undefined) === (tokenIds === undefined)) refuse('either prompt or tokenIds', line.slice(0, 80));
    if (prompt !== undefined && (typeof prompt !== 'string' || prompt === '')) {
      refuse('a text for prompt', JSON.stringify(prompt));
    }
    if (tokenIds !== undefined && !isIds(tokenIds))
      refuse('at least one integer >= 0 for tokenIds', describe(tokenIds));
    if (!isPositive(maxTokens)) refuse('an integer >= 1 for maxTokens', describe(maxTokens));
    requests.push({ prompt: (prompt ?? tokenIds) as FileRequest['prompt'], maxTokens: maxTokens as number });
  }
  return requests;
}

function workItem({ maxTokens }: FileRequest, ids: ArrayLike<number> | string): WorkItem {
  const tokenIds = Int32Array.from(ids as ArrayLike<number>);
  return { promptTokens: tokenIds.length, maxTokens, tokenIds: () => tokenIds };
}

const isPositive = (value: unknown) => Number.isInteger(value) && (value as number) >= 1;
const isIds = (value: unknown) =>
  Array.isArray(value) && value.length > 0 && value.every((id) => Number.isInteger(id) && id >= 0 && id < 2 ** 31);
const describe = (value: unknown) => (value === undefined ? 'nothing' : JSON.stringify(value).slice(0, 80));
