// What traffic consists of, as data: the same seed gives the same requests, in the same order, with the same fates.

import { seeded } from '../soak-watch.mjs';

export const maxModelLen = 1040;
const shortest = 16;
const longest = 900;
const mostTokens = 128;
/** Ids of the embedded models' vocabulary that are no special tokens. */
const ids = [16, 4095];

/** Lengths of what requests of one family begin with: system prompts, long documents, few-shot examples. */
const families = [16, 32, 48, 64, 160, 320, 512, 700];
/** The first ones are of chats: short prompts, long answers, which outgrow the cache together. */
const chats = 4;
/** By phase: requests in flight at most (a burst does not ask), and how many of them are chats. */
const phases = [
  { level: 44, chats: 0.95 },
  { level: 24, chats: 0.3 },
  { level: 36, chats: 0.9 },
  { level: 8, chats: 0.3 },
];
const phaseLength = 60;
/** Every so many requests, some come at once. */
const burstEvery = 300;
const burstLength = 100;
const words =
  'the of and to in is that it was for on are as with his they at be this from have or by one had not but'.split(' ');

/** Requests that cannot be answered, and what each must be told. */
const invalid = [
  ['ERR_INVALID_ARGUMENT', { temperature: -1 }],
  ['ERR_INVALID_ARGUMENT', { maxTokens: 0 }],
  ['ERR_INVALID_ARGUMENT', { maxTokens: 1.5 }],
  ['ERR_INVALID_ARGUMENT', { n: 0 }],
  ['ERR_INVALID_ARGUMENT', { priority: 'high' }],
  ['ERR_INVALID_ARGUMENT', { stop: [''] }],
  ['ERR_INVALID_ARGUMENT', { max_tokens: 5 }],
  ['ERR_INVALID_ARGUMENT', { tokenIds: [] }],
  ['ERR_INVALID_ARGUMENT', { tokenIds: [4096] }],
  ['ERR_INVALID_ARGUMENT', { tokenIds: undefined }],
  ['ERR_INVALID_ARGUMENT', { prompt: 'and token ids' }],
  ['ERR_CONTEXT_LENGTH', { tokenIds: new Int32Array(maxModelLen).fill(20) }],
  ['ERR_CONTEXT_LENGTH', { tokenIds: new Int32Array(5000).fill(20) }],
  ['ERR_CONTEXT_LENGTH', { tokenIds: new Int32Array(1000).fill(20), maxTokens: 100 }],
  ['ERR_CONTEXT_LENGTH', { tokenIds: undefined, prompt: 'word '.repeat(20_000) }],
  ['ERR_CHAT_TEMPLATE', { tokenIds: undefined, messages: [{ role: 'assistant', content: null, tool_calls: [{}] }] }],
];

/**
 * One request.
 * - `options` of generate, without the prompt's ids and the signal
 * - `prompt`: { kind: 'ids' | 'text' | 'chat', family, length, seed }
 * - `reader`: 'result', 'stream' or 'slow' (`pauseMs` between parts)
 * - `end`: null, or how the caller leaves: { how: 'signal', ms }, { how: 'signal', parts }, { how: 'break', parts },
 *   { how: 'before' }
 * - `code`: of an invalid request, else null
 * - `gapMs` after the request before it, and `level`: how many may be in flight when it starts
 */
export function planTraffic(seed, count) {
  const random = seeded(seed);
  const specs = [];
  let burst = 0;
  for (let i = 0; i < count; i++) {
    if (burst > 0) burst--;
    else if (i % burstEvery === burstLength + 30) burst = burstLength;
    const phase = phases[Math.floor(i / phaseLength) % phases.length];
    const level = burst > 0 ? Number.POSITIVE_INFINITY : phase.level;
    // Poisson arrivals: exponential gaps.
    const gapMs = burst > 0 ? 0 : -Math.log(1 - random.random()) * 8;
    specs.push({ ...planRequest(random, phase.chats), gapMs, level });
  }
  return specs;
}

function planRequest({ random, integer }, chatShare) {
  const chance = (p) => random() < p;
  const prompt = planPrompt(random, integer, chatShare);
  const options = {
    maxTokens: prompt.family >= 0 && prompt.family < chats ? integer(40, mostTokens) : integer(1, 50),
    ignoreEos: chance(0.7),
    temperature: chance(0.6) ? 0 : 0.8,
    seed: integer(0, 2 ** 31),
  };
  if (chance(0.3)) options.priority = integer(-2, 2);
  if (chance(0.08)) options.n = integer(2, 4);
  if (chance(0.1)) options.cacheSalt = `tenant ${integer(1, 2)}`;
  if (chance(0.08)) options.queueTimeoutMs = integer(1, 400);
  if (chance(0.1)) options.logprobs = integer(0, 3);
  if (chance(0.03)) options.promptLogprobs = 1;
  if (chance(0.05)) options.fullDepth = true;
  if (chance(0.1)) options.stop = [' the', 'qu'];
  if (chance(0.1)) Object.assign(options, { repetitionPenalty: 1.2, frequencyPenalty: 0.3 });
  const spec = { prompt, options, reader: 'result', end: null, code: null, pauseMs: 0 };
  const kind = random();
  if (kind < 0.1) Object.assign(spec, { reader: 'slow', pauseMs: integer(2, 25) });
  else if (kind < 0.6) spec.reader = 'stream';
  if (spec.reader === 'slow') options.maxBufferedTokens = integer(2, 12);
  const fate = random();
  if (fate < 0.2) leaveEarly(spec, random, integer);
  else if (fate < 0.25) {
    const [code, bad] = invalid[integer(0, invalid.length - 1)];
    Object.assign(spec, { code, options: { ...options, ...bad }, prompt: { ...prompt, kind: 'ids' } });
  }
  return spec;
}

function planPrompt(random, integer, chatShare) {
  const isChat = random() < chatShare;
  const family = isChat ? integer(0, chats - 1) : random() < 0.65 ? integer(chats, families.length - 1) : -1;
  const prefix = family < 0 ? 0 : families[family];
  // Most tails are short; prompts of their own are of any length.
  const tail = family < 0 ? integer(shortest, random() < 0.7 ? 200 : longest) : integer(1, 64);
  const kind = random() < 0.8 ? 'ids' : random() < 0.5 ? 'text' : 'chat';
  return { kind, family, length: Math.min(longest, Math.max(shortest, prefix + tail)), seed: integer(0, 2 ** 31) };
}

function leaveEarly(spec, random, integer) {
  const how = random();
  if (how < 0.5) spec.end = { how: 'signal', ms: Math.floor(600 * random() ** 3) };
  else if (how < 0.55) spec.end = { how: 'before' };
  else {
    spec.end = { how: how < 0.75 ? 'signal' : 'break', parts: integer(1, 20) };
    if (spec.reader === 'result') spec.reader = 'stream';
  }
}

/** The prompt of a request, made when it is needed. */
export function promptOf({ kind, family, length, seed }) {
  const own = seeded(seed);
  const common = seeded(1000 + family);
  const prefix = family < 0 ? 0 : Math.min(families[family], length - 1);
  const at = (i) => (i < prefix ? common : own).integer;
  if (kind === 'ids') return { tokenIds: Int32Array.from({ length }, (_, i) => at(i)(...ids)) };
  // A word is about a token.
  const text = Array.from({ length: Math.ceil(length * 0.8) }, (_, i) => words[at(i)(0, words.length - 1)]).join(' ');
  return kind === 'text' ? { prompt: text } : { messages: [{ role: 'user', content: text }] };
}
