// What a finished request reports of itself.

import type { Job } from './job.ts';
import type { Timings, Usage } from './types.ts';

export function jobUsage({ sequence }: Job): Usage {
  return {
    promptTokens: sequence.promptLength,
    cachedTokens: sequence.cachedTokens,
    completionTokens: sequence.numOutput,
    rowLayersRun: sequence.rowLayersRun,
    rowLayersSkipped: sequence.rowLayersSkipped,
    preemptions: sequence.numPreemptions,
  };
}

/** @param submittedAt when the reader asked, of performance.now() */
export function jobTimings(job: Job, submittedAt: number): Timings {
  const { sequence, startedAt, lastTokenAt, endedAt } = job;
  const firstTokenAt = Number.isNaN(job.firstTokenAt) ? endedAt : job.firstTokenAt;
  const later = sequence.numOutput - 1;
  const decodeMs = lastTokenAt - firstTokenAt;
  return {
    queueMs: startedAt - submittedAt,
    ttftMs: firstTokenAt - submittedAt,
    tpotMs: later > 0 ? decodeMs / later : null,
    totalMs: endedAt - submittedAt,
    prefillTokensPerSecond: perSecond(sequence.promptLength - sequence.cachedTokens, firstTokenAt - startedAt),
    decodeTokensPerSecond: later > 0 ? perSecond(later, decodeMs) : null,
  };
}

/** The clock may not have moved: a microsecond is the least that is believed. */
function perSecond(count: number, ms: number): number {
  return (count * 1000) / Math.max(ms, 1e-3);
}
