// One caller: makes a request, reads the answer in its own way, and says how it ended.

import { setTimeout as sleep } from 'node:timers/promises';
import { promptOf } from './plan.mjs';

/** What concerns only when a request runs, not what it is answered. */
const timing = ['priority', 'queueTimeoutMs', 'maxBufferedTokens', 'cacheSalt'];

/**
 * @returns { answers, usage } of a whole answer: [n] of { tokenIds, logprobs }; { left: true } where the caller broke off
 * @throws what the request rejects with, and plain Errors for streams that contradict themselves
 */
export async function call(engine, spec) {
  const { end, reader } = spec;
  const controller = end?.how === 'signal' || end?.how === 'before' ? new AbortController() : null;
  const options = { ...promptOf(spec.prompt), ...spec.options, ...(controller && { signal: controller.signal }) };
  if (end?.how === 'before') controller.abort();
  const timer = end?.ms === undefined ? null : setTimeout(() => controller.abort(), end.ms);
  try {
    const generation = engine.generate(options);
    if (reader === 'result') return await whole(generation, options.n ?? 1);
    return await stream(generation, spec, controller);
  } finally {
    clearTimeout(timer);
  }
}

/** The same request with the engine for itself. */
export function callAlone(engine, spec) {
  const options = Object.fromEntries(Object.entries(spec.options).filter(([name]) => !timing.includes(name)));
  return whole(engine.generate({ ...promptOf(spec.prompt), ...options }), options.n ?? 1);
}

async function whole(generation, n) {
  const results = n === 1 ? [await generation.result()] : await generation.results();
  const answers = results.map(({ tokenIds, logprobs }) => ({ tokenIds, logprobs }));
  return { answers, usage: results.map((result) => result.usage) };
}

async function stream(generation, { options, end, pauseMs }, controller) {
  const n = options.n ?? 1;
  const answers = Array.from({ length: n }, () => ({
    tokenIds: [],
    logprobs: options.logprobs === undefined ? null : [],
  }));
  const usage = new Array(n).fill(null);
  let parts = 0;
  for await (const part of generation) {
    const { index = 0 } = part;
    const answer = answers[index];
    if (answer === undefined || usage[index] !== null)
      throw new Error(`a ${part.type} part of answer ${index} of ${n}`);
    if (part.type === 'finish') {
      usage[index] = part.usage;
      if (part.usage.completionTokens !== answer.tokenIds.length) {
        throw new Error(`${answer.tokenIds.length} tokens were streamed, but ${part.usage.completionTokens} counted`);
      }
      continue;
    }
    answer.tokenIds.push(...part.tokenIds);
    answer.logprobs?.push(...part.logprobs);
    if (++parts === end?.parts) {
      if (end.how === 'break') return { left: true };
      controller.abort();
    }
    if (pauseMs > 0) await sleep(pauseMs);
  }
  if (usage.includes(null)) throw new Error(`a stream of ${n} answers ended without finishing all`);
  return { answers, usage };
}
