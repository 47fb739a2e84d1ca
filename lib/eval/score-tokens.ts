// How likely a model finds the tokens of a text.

import type { Engine } from '../engine/engine.ts';
import type { TokenIds } from '../engine/types.ts';

/**
 * Natural log-probability of each token given those before it: [tokenIds.length - 1], as the first has nothing before it.
 * Every layer runs on every token (fullDepth).
 * @throws as engine.logits
 */
export async function scoreTokens(engine: Engine, tokenIds: TokenIds, signal?: AbortSignal): Promise<Float64Array> {
  const { data, vocabSize } = await engine.logits(tokenIds, { signal });
  const scores = new Float64Array(Math.max(0, tokenIds.length - 1));
  for (let i = 0; i < scores.length; i++) {
    const row = data.subarray(i * vocabSize, (i + 1) * vocabSize);
    scores[i] = row[tokenIds[i + 1]!]! - logSumExp(row);
  }
  return scores;
}

function logSumExp(row: Float32Array): number {
  let most = Number.NEGATIVE_INFINITY;
  for (const x of row) if (x > most) most = x;
  let sum = 0;
  for (const x of row) sum += Math.exp(x - most);
  return most + Math.log(sum);
}
