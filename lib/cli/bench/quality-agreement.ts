// How far two models' next-token distributions are apart over a text.

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
