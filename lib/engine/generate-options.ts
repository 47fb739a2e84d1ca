// Checks and copies the options of one generation. What comes out no longer depends on the caller's objects.

import { SwiftKVError } from '../errors.ts';
import type { ModelConfig } from '../model/config.ts';
import { maxTopLogprobs } from '../model/sizes.ts';
import { resolveSampling, type Sampling } from '../sampling/options.ts';
import { maskOf } from '../sampling/token-mask.ts';
import { plainMessages } from '../tokenizer/chat-message.ts';
import type { ChatMessage } from '../tokenizer/tokenizer.ts';
import { rootOf } from './prefix-cache.ts';
import type { SamplingDefaults } from './types.ts';
import {
  checkBoolean,
  checkFunction,
  checkInteger,
  checkOptions,
  checkSignal,
  checkString,
  checkTimeout,
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
  'repetitionPenalty',
  'presencePenalty',
  'frequencyPenalty',
  'logitBias',
  'allowedTokenIds',
  'tokenMask',
  'stop',
  'includeStop',
  'stopTokenIds',
  'ignoreEos',
  'minTokens',
  'skipSpecialTokens',
  'logprobs',
  'promptLogprobs',
  'fullDepth',
  'n',
  'priority',
  'cacheSalt',
  'queueTimeoutMs',
  'maxBufferedTokens',
  'signal',
] as const;

export const maxAnswers = 64;
const maxPriority = 2 ** 31 - 1;
const defaultMaxBufferedTokens = 1024;
const maxStops = 64;
const maxStopLength = 1000;

export type PromptInput =
  | { type: 'prompt'; text: string }
  | { type: 'messages'; messages: readonly ChatMessage[] }
  | { type: 'tokenIds'; tokenIds: Int32Array };

export type TokenMask = (outputIds: Int32Array) => Uint32Array | null;

export interface GenerateRequest {
  input: PromptInput;
  /** null: as many as there is room for. */
  maxTokens: number | null;
  sampling: Sampling;
  /** [ceil(vocabSize / 32)] or null. */
  allowed: Uint32Array | null;
  tokenMask: TokenMask | null;
  stopIds: ReadonlySet<number>;
  stops: readonly string[];
  includeStop: boolean;
  minTokens: number;
  skipSpecialTokens: boolean;
  /** Most likely tokens to report beside each token; null: no log-probabilities. */
  logprobs: number | null;
  promptLogprobs: number | null;
  fullDepth: boolean;
  /** Answers. */
  n: number;
  priority: number;
  /** Of its salt; see prefix-cache.ts. */
  root: number;
  queueTimeoutMs: number | null;
  maxBufferedTokens: number;
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
  const { vocabSize } = config;
  const { ignoreEos = false, fullDepth = false, includeStop = false, skipSpecialTokens = true } = options;
  const { stopTokenIds, allowedTokenIds, tokenMask, signal } = options;
  const stopIds = stopIdsOf(checkBoolean('ignoreEos', ignoreEos, where), stopTokenIds, vocabSize, eosIds);
  const sampling = resolveSampling(options, { defaults, vocabSize, stopIds, where });
  const promptLogprobs = topCount('promptLogprobs', options);
  return {
    input: checkInput(options, config),
    ...tokenLimits(options, sampling.state.minTokens, promptLogprobs),
    sampling,
    allowed: allowedTokenIds === undefined ? null : allowedMask(allowedTokenIds, vocabSize),
    tokenMask: tokenMask === undefined ? null : checkFunction<TokenMask>('tokenMask', tokenMask, where),
    stopIds,
    stops: stopStrings(options['stop']),
    includeStop: checkBoolean('includeStop', includeStop, where),
    skipSpecialTokens: checkBoolean('skipSpecialTokens', skipSpecialTokens, where),
    logprobs: topCount('logprobs', options),
    promptLogprobs,
    fullDepth: checkBoolean('fullDepth', fullDepth, where) || promptLogprobs !== null,
    ...serviceOptions(options),
    signal: signal === undefined ? null : checkSignal('signal', signal, where),
  };
}

function tokenLimits({ maxTokens }: Record<string, unknown>, minTokens: number, promptLogprobs: number | null) {
  if (maxTokens === undefined) return { maxTokens: null, minTokens };
  const limit = checkInteger('maxTokens', maxTokens, where, promptLogprobs === null ? 1 : 0);
  if (minTokens > limit) throw expected('minTokens', `an integer from 0 to maxTokens (${limit})`, minTokens, where);
  return { maxTokens: limit, minTokens };
}

/** How the request is served among others. */
function serviceOptions(options: Record<string, unknown>) {
  const { n = 1, priority = 0, cacheSalt = '', queueTimeoutMs } = options;
  const { maxBufferedTokens = defaultMaxBufferedTokens } = options;
  const answers = checkInteger('n', n, where, 1, maxAnswers);
  if (answers > 1 && options['maxTokens'] === 0) throw expected('n', '1 where maxTokens is 0', n, where);
  return {
    n: answers,
    priority: checkInteger('priority', priority, where, -maxPriority, maxPriority),
    root: rootOf(checkString('cacheSalt', cacheSalt, where)),
    queueTimeoutMs: queueTimeoutMs === undefined ? null : checkTimeout('queueTimeoutMs', queueTimeoutMs, where),
    maxBufferedTokens: checkInteger('maxBufferedTokens', maxBufferedTokens, where, 1),
  };
}

function topCount(name: 'logprobs' | 'promptLogprobs', options: Record<string, unknown>): number | null {
  const value = options[name];
  return value === undefined ? null : checkInteger(name, value, where, 0, maxTopLogprobs);
}

function stopIdsOf(ignoreEos: boolean, given: unknown, vocabSize: number, eosIds: ReadonlySet<number>) {
  const own = given === undefined ? [] : checkTokenIds('stopTokenIds', given, where, vocabSize);
  if (own.length === 0 && !ignoreEos) return eosIds;
  return new Set(ignoreEos ? own : [...eosIds, ...own]);
}

function allowedMask(value: unknown, vocabSize: number): Uint32Array {
  const ids = checkTokenIds('allowedTokenIds', value, where, vocabSize);
  if (ids.length === 0) throw expected('allowedTokenIds', 'a non-empty array of token ids', value, where);
  return maskOf(ids, vocabSize);
}

function stopStrings(value: unknown): readonly string[] {
  if (value === undefined) return [];
  const stops: unknown[] = Array.isArray(value) ? value : [value];
  if (stops.length > maxStops) throw expected('stop', `at most ${maxStops} strings`, value, where);
  const each = `a string of 1 to ${maxStopLength} UTF-16 units, without half of a surrogate pair`;
  return stops.map((stop, i) => {
    const name = Array.isArray(value) ? `stop[${i}]` : 'stop';
    if (typeof stop !== 'string' || stop === '' || stop.length > maxStopLength || hasLoneSurrogate(stop)) {
      throw expected(name, each, stop, where);
    }
    return stop;
  });
}

/** Text of a tokenizer never ends inside a character, so such a string could only be found by mistake. */
function hasLoneSurrogate(text: string): boolean {
  return /\p{Surrogate}/u.test(text);
}

function checkInput(options: Record<string, unknown>, { vocabSize, maxPositions }: ModelConfig): PromptInput {
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
  // Before so many are looked at and copied.
  const isList = Array.isArray(tokenIds) || ArrayBuffer.isView(tokenIds);
  const length = isList && 'length' in tokenIds ? (tokenIds.length as number) : 0;
  if (length > maxPositions) {
    throw new SwiftKVError(
      'ERR_CONTEXT_LENGTH',
      `Expected at most ${maxPositions} tokens (max_position_embeddings) but received a prompt of ${length} (${where})`,
    );
  }
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
