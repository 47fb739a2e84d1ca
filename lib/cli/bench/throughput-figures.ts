// Figures of one pass, and of its repetitions.

import { meetsObjective, type Objective } from './objective.ts';
import { quantile } from './statistics.ts';
import type { PassRecord, RequestRecord } from './throughput-pass.ts';

/** Whether more is better, less is better, or neither. */
export type Direction = 'higher' | 'lower' | 'neither';

const percentiles = { P50: 0.5, P90: 0.9, P99: 0.99 } as const;
type Percentile = keyof typeof percentiles;

const times = ['queue', 'ttft', 'tpot', 'itl', 'e2e'] as const;
export type TimeName = (typeof times)[number];
export type TimeFigure = `${TimeName}${Percentile}Ms`;

/** Of one workload, input, output and requests per second say what combined tokens per second say: they are not judged. */
const rates = {
  combinedTokensPerSecond: 'higher',
  inputTokensPerSecond: 'neither',
  outputTokensPerSecond: 'neither',
  requestsPerSecond: 'neither',
  goodShare: 'higher',
  goodRequestsPerSecond: 'higher',
  seconds: 'neither',
  preemptions: 'neither',
  prefixHitTokens: 'neither',
  steps: 'neither',
  rowsPerStep: 'neither',
  stepMs: 'neither',
  jsMicrosecondsPerStep: 'neither',
  meanRunning: 'neither',
  maxRunning: 'neither',
} as const satisfies Record<string, Direction>;

export type FigureName = keyof typeof rates | TimeFigure;
/** null: there was nothing to measure. */
export type Figures = Record<FigureName, number | null>;

export const timeFigures = (name: TimeName): TimeFigure[] =>
  Object.keys(percentiles).map((percentile) => `${name}${percentile as Percentile}Ms` as const);

/** What is better of each figure. Queue time is part of the time to first token: it is not judged twice. */
export const figureDirections: Readonly<Record<FigureName, Direction>> = {
  ...rates,
  ...(Object.fromEntries(
    times.flatMap((name) => timeFigures(name).map((figure) => [figure, name === 'queue' ? 'neither' : 'lower'])),
  ) as Record<TimeFigure, Direction>),
};

/** @param objective what goodput counts; null = there is none */
export function passFigures({ seconds, requests, steps }: PassRecord, objective: Objective | null): Figures {
  const sum = (of: (r: RequestRecord) => number) => requests.reduce((total, request) => total + of(request), 0);
  const input = sum((r) => r.promptTokens);
  const output = sum((r) => r.completionTokens);
  const good = objective === null ? null : requests.filter((r) => meetsObjective(r, objective)).length;
  const perStep = (total: number) => (steps.steps === 0 ? null : total / steps.steps);
  return {
    combinedTokensPerSecond: (input + output) / seconds,
    inputTokensPerSecond: input / seconds,
    outputTokensPerSecond: output / seconds,
    requestsPerSecond: requests.length / seconds,
    goodShare: good === null ? null : good / requests.length,
    goodRequestsPerSecond: good === null ? null : good / seconds,
    seconds,
    preemptions: sum((r) => r.preemptions),
    prefixHitTokens: sum((r) => r.cachedTokens),
    steps: steps.steps,
    rowsPerStep: perStep(steps.rows),
    stepMs: perStep(steps.ms),
    jsMicrosecondsPerStep: perStep(steps.jsMs * 1e3),
    meanRunning: perStep(steps.running),
    maxRunning: steps.steps === 0 ? null : steps.maxRunning,
    ...timeQuantiles({
      queue: requests.map((r) => r.queueMs),
      ttft: requests.map((r) => r.ttftMs),
      tpot: requests.flatMap((r) => r.tpotMs ?? []),
      itl: requests.flatMap((r) => r.gapsMs),
      e2e: requests.map((r) => r.e2eMs),
    }),
  };
}

function timeQuantiles(samples: Record<TimeName, readonly number[]>): Record<TimeFigure, number | null> {
  const quantiles = times.flatMap((name) =>
    Object.entries(percentiles).map(([percentile, q]) => [
      `${name}${percentile}Ms`,
      samples[name].length === 0 ? null : quantile(samples[name], q),
    ]),
  );
  return Object.fromEntries(quantiles) as Record<TimeFigure, number | null>;
}

/** A figure over the rounds. */
export interface Rounds {
  median: number;
  min: number;
  max: number;
  rounds: number[];
}

export type RoundFigures = Record<FigureName, Rounds | null>;

/** Each figure over the passes in which it was measured. */
export function overRounds(passes: readonly Figures[]): RoundFigures {
  return Object.fromEntries(
    (Object.keys(figureDirections) as FigureName[]).map((name) => {
      const rounds = passes.flatMap((figures) => figures[name] ?? []);
      return [name, rounds.length === 0 ? null : roundsOf(rounds)];
    }),
  ) as RoundFigures;
}

function roundsOf(rounds: number[]): Rounds {
  return { median: quantile(rounds, 0.5), min: Math.min(...rounds), max: Math.max(...rounds), rounds };
}
