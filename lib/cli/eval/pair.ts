// What each row of an evaluation changes against the first, judged on the items and windows of both.

import { isDeepStrictEqual } from 'node:util';
import type { Normalisation } from '../../eval/choices.ts';
import { type Interval, type PairedShare, pairedMean, pairedShare, perplexityChange } from '../../eval/paired.ts';
import type { EvalResult } from './evaluate.ts';

/** A row, and the file it comes from where there are several. */
export type Row = EvalResult & { file?: string };

type RowName = Pick<Row, 'file' | 'model' | 'kvCache'>;

/** Shares are differences of shares (0.01 is a point), the perplexity's change is a share of the first row's. */
export interface PairedRow extends RowName {
  /** null: another tokenizer made other windows. */
  perplexity?: { change: Interval } | null;
  agreement?: PairedAgreement | null;
  exact?: PairedExact;
  choices?: PairedChoices;
}

export interface PairedAgreement {
  agreement: Interval;
  kl: Interval;
}

export interface PairedExact extends PairedShare {
  groups: ({ group: string } & PairedShare)[];
}

export type PairedChoices = Record<Normalisation, PairedShare>;

export interface Paired {
  against: RowName;
  rows: PairedRow[];
}

/** Every row but the first against the first. All have the same measures of the same items. */
export function pairRows([first, ...others]: readonly Row[]): Paired {
  return { against: nameOf(first!), rows: others.map((row) => pairRow(first!, row)) };
}

function nameOf({ file, model, kvCache }: Row): RowName {
  return { ...(file === undefined ? {} : { file }), model, kvCache };
}

function pairRow(first: Row, row: Row): PairedRow {
  const paired: PairedRow = nameOf(row);
  const share = isSame(first, row) ? sameShare : pairedShare;
  if (first.perplexity !== undefined && row.perplexity !== undefined) {
    paired.perplexity = pairPerplexity(first.perplexity, row.perplexity);
  }
  if (first.agreement !== undefined && row.agreement !== undefined) {
    const [a, b] = [first.agreement.perWindow, row.agreement.perWindow];
    paired.agreement = paired.perplexity === null ? null : pairAgreement(a, b);
  }
  if (first.exact !== undefined && row.exact !== undefined) {
    paired.exact = pairExact(first.exact.perItem, row.exact.perItem, share);
  }
  if (first.choices !== undefined && row.choices !== undefined) {
    paired.choices = pairChoices(first.choices.perItem, row.choices.perItem, share);
  }
  return paired;
}

/** The same model and cache, with every log-likelihood and text the same: not a sample of a difference but none. */
function isSame({ file: _, ...first }: Row, { file: __, ...row }: Row): boolean {
  return isDeepStrictEqual(first, row);
}

type Share = typeof pairedShare;

const sameShare: Share = (first) => ({ value: 0, low: 0, high: 0, items: first.length, gained: 0, lost: 0 });

type PerWindow<Measure extends 'perplexity' | 'agreement'> = NonNullable<EvalResult[Measure]>['perWindow'];

function pairPerplexity(
  first: NonNullable<EvalResult['perplexity']>,
  row: NonNullable<EvalResult['perplexity']>,
): { change: Interval } | null {
  if (first.tokenDigest !== row.tokenDigest) return null;
  const nats = (windows: PerWindow<'perplexity'>) => windows.map((window) => window.nats);
  const tokens = first.perWindow.map((window) => window.tokens);
  return { change: perplexityChange(nats(first.perWindow), nats(row.perWindow), tokens) };
}

function pairAgreement(first: PerWindow<'agreement'>, row: PerWindow<'agreement'>): PairedAgreement {
  const tokens = first.map((window) => window.tokens);
  const totals = (windows: typeof first, mean: 'agreement' | 'kl') =>
    windows.map((window) => window[mean] * window.tokens);
  const pair = (mean: 'agreement' | 'kl') => pairedMean(totals(first, mean), totals(row, mean), tokens);
  return { agreement: pair('agreement'), kl: pair('kl') };
}

type ExactRecords = NonNullable<EvalResult['exact']>['perItem'];

/** Items without a field to group by are in the first row's groups: another tokenizer may count other tokens. */
function pairExact(first: ExactRecords, row: ExactRecords, share: Share): PairedExact {
  const of = (indices: number[]) =>
    share(
      indices.map((i) => first[i]!.correct),
      indices.map((i) => row[i]!.correct),
    );
  const groups = new Map<string, number[]>();
  for (const [i, { group }] of first.entries()) groups.set(group, [...(groups.get(group) ?? []), i]);
  const inOrder = [...groups].sort(([a], [b]) => a.localeCompare(b, 'en', { numeric: true }));
  return {
    ...of(first.map((_, i) => i)),
    groups: inOrder.map(([group, indices]) => ({ group, ...of(indices) })),
  };
}

type ChoiceRecords = NonNullable<EvalResult['choices']>['perItem'];

function pairChoices(first: ChoiceRecords, row: ChoiceRecords, share: Share): PairedChoices {
  const correct = (items: ChoiceRecords, way: Normalisation) => items.map((item) => item[way]);
  const pair = (way: Normalisation) => share(correct(first, way), correct(row, way));
  return { plain: pair('plain'), perToken: pair('perToken'), perByte: pair('perByte') };
}
