// How likely a model finds the tokens of a text.

import type { Engine } from '../engine/engine.ts';
import type { TokenIds } from '../engine/types.ts';

/**
 * Natural log-probability of each token given those before it: [tokenIds.length - 1], as the first has nothing before it.
 * Every layer runs on every token, and the head in row chunks, so that a long text needs no more memory than a short one.
 * @throws as engine.generate
 */
export async function scoreTokens(engine: Engine, tokenIds: TokenIds, signal?: AbortSignal): Promise<Float64Array> {
  const { promptLogprobs } = await engine.generate({ tokenIds, promptLogprobs: 0, maxTokens: 0, signal }).result();
  return Float64Array.from(promptLogprobs!.slice(1), (token) => token!.logprob);
}
