// Perplexity of a text: exp of the mean negative log-likelihood of a token given those before it in its window.

import type { Engine } from '../engine/engine.ts';
import { inOrder } from './in-order.ts';
import { scoreTokens } from './score-tokens.ts';
import { ratioOfSums, sum } from './statistics.ts';
import type { Window } from './windows.ts';

export interface ScoredWindow {
  document: number;
  start: number;
  /** Tokens that count. */
  tokens: number;
  /** Their negative log-likelihood in all, nats. */
  nats: number;
}

export interface Perplexity {
  windows: number;
  tokens: number;
  /** Mean a token. */
  nats: number;
  natsStandardError: number;
  perplexity: number;
  /** Over windows: perplexity times that of nats. */
  standardError: number;
}

export interface EvalRun {
  /** Requests in flight; the results do not depend on it. Default 32. */
  inFlight?: number | undefined;
  signal?: AbortSignal | undefined;
}

export const defaultInFlight = 32;

/** Scores windows, and yields them in order. @throws as scoreTokens */
export function scoreWindows(
  engine: Engine,
  windows: readonly Window[],
  { inFlight = defaultInFlight, signal }: EvalRun = {},
): AsyncGenerator<ScoredWindow> {
  const score = async ({ tokenIds, from, document, start }: Window, stop: AbortSignal): Promise<ScoredWindow> => {
    const scores = await scoreTokens(engine, tokenIds, stop);
    const counted = scores.subarray(from - 1);
    return { document, start, tokens: counted.length, nats: -counted.reduce((total, score) => total + score, 0) };
  };
  return inOrder(windows, inFlight, score, signal);
}

export function perplexityOf(scored: readonly ScoredWindow[]): Perplexity {
  const sizes = scored.map(({ tokens }) => tokens);
  const { value: nats, standardError: natsStandardError } = ratioOfSums(
    scored.map((window) => window.nats),
    sizes,
  );
  const perplexity = Math.exp(nats);
  return {
    windows: scored.length,
    tokens: sum(sizes),
    nats,
    natsStandardError,
    perplexity,
    standardError: perplexity * natsStandardError,
  };
}
