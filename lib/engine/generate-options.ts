// Checks and copies the options of one generation. What comes out no longer depends on the caller's objects.

import { SwiftKVError } from '../errors.ts';
import type { ModelConfig } from '../model/config.ts';
import { resolveSampling, type Sampling } from '../sampling/options.ts';
import { plainMessages } from '../tokenizer/chat-message.ts';
import type { ChatMessage } from '../tokenizer/tokenizer.ts';
import type { SamplingDefaults } from './types.ts';
import {
  checkBoolean,
  checkInteger,
  checkOptions,
  checkSignal,
  checkString,
  checkTokenIds,
  expected,
} from './validate.ts';

const where = 'generate';
const known = [
  'prompt',
  'messages',
  'tokenIds',
  'maxTokens',
  'temperature',
  'topK',
  'topP',
  'minP',
  'seed',
  'ignoreEos',
  'fullDepth',
  'stopTokenIds',
  'signal',
] as const;

export type PromptInput =
  | { type: 'prompt'; text: string }
  | { type: 'messages'; messages: readonly ChatMessage[] }
  | { type: 'tokenIds'; tokenIds: Int32Array };

export interface GenerateRequest {
  input: PromptInput;
  /** null: as many as there is room for. */
  maxTokens: number | null;
  sampling: Sampling;
  stopIds: ReadonlySet<number>;
  fullDepth: boolean;
  signal: AbortSignal | null;
}

/** @throws ERR_INVALID_ARGUMENT */
export function checkGenerateOptions(
  value: unknown,
  config: ModelConfig,
  defaults: SamplingDefaults,
  eosIds: ReadonlySet<number>,
): GenerateRequest {
  const options = checkOptions(value, known, where);
  const { maxTokens, ignoreEos = false, fullDepth = false, stopTokenIds, signal } = options;
  return {
    input: checkInput(options, config.vocabSize),
    maxTokens: maxTokens === undefined ? null : checkInteger('maxTokens', maxTokens, where, 1),
    sampling: resolveSampling(options, defaults, where),
    stopIds: stopIds(checkBoolean('ignoreEos', ignoreEos, where), stopTokenIds, config.vocabSize, eosIds),
    fullDepth: checkBoolean('fullDepth', fullDepth, where),
    signal: signal === undefined ? null : checkSignal('signal', signal, where),
  };
}

function stopIds(ignoreEos: boolean, given: unknown, vocabSize: number, eosIds: ReadonlySet<number>) {
  const own = given === undefined ? [] : checkTokenIds('stopTokenIds', given, where, vocabSize);
  if (own.length === 0 && !ignoreEos) return eosIds;
  return new Set(ignoreEos ? own : [...eosIds, ...own]);
}

function checkInput(options: Record<string, unknown>, vocabSize: number): PromptInput {
  const { prompt, messages, tokenIds } = options;
  const given = ['prompt', 'messages', 'tokenIds'].filter((name) => options[name] !== undefined);
  if (given.length !== 1) {
    const received = given.length === 0 ? 'none of them' : given.join(' and ');
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `Expected exactly one of prompt, messages and tokenIds but received ${received} (${where})`,
    );
  }
  if (prompt !== undefined) return { type: 'prompt', text: checkString('prompt', prompt, where) };
  if (messages !== undefined) return { type: 'messages', messages: checkMessages(messages) };
  const ids = checkTokenIds('tokenIds', tokenIds, where, vocabSize);
  if (ids.length === 0) throw expected('tokenIds', 'a non-empty array of token ids', tokenIds, where);
  return { type: 'tokenIds', tokenIds: ids };
}

/** Chat templates read more than role and content, so messages are copied whole. */
function checkMessages(value: unknown): readonly ChatMessage[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw expected('messages', 'a non-empty array of { role, content }', value, where);
  }
  const messages = value.map((message: unknown, i) => {
    if (typeof message !== 'object' || message === null) {
      throw expected(`messages[${i}]`, 'an object { role, content }', message, where);
    }
    const { role, content, tool_calls } = message as Record<string, unknown>;
    const silent = (content === null || content === undefined) && Array.isArray(tool_calls);
    return {
      ...message,
      role: checkString(`messages[${i}].role`, role, where),
      content: silent ? null : checkString(`messages[${i}].content`, content, where),
    };
  });
  return plainMessages(messages);
}
