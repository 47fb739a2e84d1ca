// How far two models' next-token distributions are apart over a text.

import type { Engine } from '../engine/engine.ts';
import { SwiftKVError } from '../errors.ts';
import { inOrder } from './in-order.ts';
import type { EvalRun } from './perplexity.ts';
import { type Estimate, ratioOfSums, sum } from './statistics.ts';
import type { Window } from './windows.ts';

export interface Agreement {
  /** Tokens compared. */
  tokens: number;
  /** Mean negative log-likelihood of the text's tokens, nats. */
  nll: number;
  /** Share of positions whose most likely token is the reference's. */
  agreement: number;
  /** Mean of KL(reference || model), nats. */
  kl: number;
}

export const emptyAgreement: Agreement = { tokens: 0, nll: 0, agreement: 0, kl: 0 };

/** Means over the tokens of both. */
export function mergeAgreement(a: Agreement, b: Agreement): Agreement {
  const tokens = a.tokens + b.tokens;
  const mean = (x: number, y: number) => (tokens === 0 ? 0 : (x * a.tokens + y * b.tokens) / tokens);
  return { tokens, nll: mean(a.nll, b.nll), agreement: mean(a.agreement, b.agreement), kl: mean(a.kl, b.kl) };
}

export interface AgreementEstimate {
  tokens: number;
  /** Share of positions at which both find the same token the most likely. */
  agreement: Estimate;
  /** Mean of KL(reference || model), nats. */
  kl: Estimate;
}

/** Windows whose logits of both models are held at once. */
const windowsHeld = 2;

/**
 * Compares a model with a reference over windows, and yields the results in order. Both must have the same vocabulary.
 * @throws ERR_INVALID_ARGUMENT for different vocabularies or a window longer than `info().maxLogitPositions`; as logits
 */
export function compareWindows(
  engine: Engine,
  reference: Engine,
  windows: readonly Window[],
  { signal }: Pick<EvalRun, 'signal'> = {},
): AsyncGenerator<Agreement> {
  checkComparable(engine, reference, windows);
  const compare = async ({ tokenIds, from }: Window, stop: AbortSignal): Promise<Agreement> => {
    const [own, other] = await Promise.all([
      engine.logits(tokenIds, { signal: stop }),
      reference.logits(tokenIds, { signal: stop }),
    ]);
    const skipped = (from - 1) * own.vocabSize;
    return agreementOf(
      own.data.subarray(skipped),
      other.data.subarray(skipped),
      tokenIds.slice(from - 1),
      own.vocabSize,
    );
  };
  return inOrder(windows, windowsHeld, compare, signal);
}

/** Means over all tokens, with their errors over windows. */
export function agreementEstimate(windows: readonly Agreement[]): AgreementEstimate {
  const sizes = windows.map(({ tokens }) => tokens);
  const estimate = (mean: (window: Agreement) => number) =>
    ratioOfSums(
      windows.map((window) => mean(window) * window.tokens),
      sizes,
    );
  return {
    tokens: sum(sizes),
    agreement: estimate(({ agreement }) => agreement),
    kl: estimate(({ kl }) => kl),
  };
}

function checkComparable(engine: Engine, reference: Engine, windows: readonly Window[]): void {
  const [own, other] = [engine.info(), reference.info()];
  const refuse = (message: string) => new SwiftKVError('ERR_INVALID_ARGUMENT', message);
  if (own.config.vocabSize !== other.config.vocabSize) {
    throw refuse(
      `Expected two models of one vocabulary but ${own.source} has ${own.config.vocabSize} tokens and ` +
        `${other.source} ${other.config.vocabSize}`,
    );
  }
  const limit = Math.min(own.maxLogitPositions, other.maxLogitPositions);
  const longest = Math.max(0, ...windows.map(({ tokenIds }) => tokenIds.length));
  if (longest > limit) {
    throw refuse(`Expected windows of at most ${limit} tokens, whose logits fit into memory, but received ${longest}`);
  }
}

/** Logits [ids.length, vocab] of a model and of the reference; row i predicts ids[i + 1]. */
export function agreementOf(
  logits: Float32Array,
  reference: Float32Array,
  ids: ArrayLike<number>,
  vocab: number,
): Agreement {
  const tokens = Math.max(0, ids.length - 1);
  let [nll, same, kl] = [0, 0, 0];
  for (let i = 0; i < tokens; i++) {
    const row = logits.subarray(i * vocab, (i + 1) * vocab);
    const expected = reference.subarray(i * vocab, (i + 1) * vocab);
    const own = summary(row);
    const other = summary(expected);
    nll += own.logSum - row[ids[i + 1]!]!;
    if (own.best === other.best) same++;
    for (let v = 0; v < vocab; v++) {
      const logP = expected[v]! - other.logSum;
      kl += Math.exp(logP) * (logP - (row[v]! - own.logSum));
    }
  }
  const mean = (sum: number) => (tokens === 0 ? 0 : sum / tokens);
  return { tokens, nll: mean(nll), agreement: mean(same), kl: mean(kl) };
}

/** log of the sum of exp, and the index of the largest. */
function summary(row: Float32Array): { logSum: number; best: number } {
  let best = 0;
  for (let v = 1; v < row.length; v++) if (row[v]! > row[best]!) best = v;
  const most = row[best]!;
  let sum = 0;
  for (const x of row) sum += Math.exp(x - most);
  return { logSum: most + Math.log(sum), best };
}
