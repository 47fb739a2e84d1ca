// Builds the jobs of a request: a sequence for each answer, all of one prompt.

import type { ModelRunner } from '../model/runner.ts';
import { blockTokens } from './block-manager.ts';
import type { GenerateRequest } from './generate-options.ts';
import { Job, type JobListener } from './job.ts';
import { LogprobStore } from './logprob-store.ts';
import { Sequence, SequenceGroup } from './sequence.ts';

/** Beyond every root that a salt has: a request's own. */
const firstPrivateRoot = -(2 ** 48) - 1;

export interface JobLimits extends Pick<ModelRunner, 'capacity' | 'numBlocks'> {
  maxModelLen: number;
  prefixCaching: boolean;
}

/** @param requestId different for every request of the engine */
export function buildJobs(
  request: GenerateRequest,
  prompt: Int32Array,
  listeners: readonly JobListener[],
  limits: JobLimits,
  requestId: number,
): Job[] {
  const { maxModelLen, numBlocks, capacity, prefixCaching } = limits;
  // The last token of an answer needs no room in the cache.
  const room = Math.min(maxModelLen, numBlocks * blockTokens + 1) - prompt.length;
  // A small vocabulary has fewer tokens than may be asked for.
  const store = (top: number | null) =>
    top === null ? null : new LogprobStore(Math.min(top, capacity.maxTopLogprobs));
  const group = listeners.length > 1 ? new SequenceGroup() : null;
  return listeners.map((listener, index) => {
    // The prompt is scored once.
    const promptLogprobs = index === 0 ? request.promptLogprobs : null;
    const sequence = new Sequence({
      prompt,
      maxTokens: request.maxTokens ?? Math.max(1, room),
      stopIds: request.stopIds,
      fullDepth: request.fullDepth,
      scoring: promptLogprobs === null ? null : 'logprobs',
      logprobs: request.logprobs !== null,
      priority: request.priority,
      // Answers to one prompt share it in any case.
      root: prefixCaching ? request.root : group === null ? 0 : firstPrivateRoot - requestId,
      group,
    });
    return new Job(sequence, { ...request.sampling.state, choice: index }, listener, {
      logprobs: store(request.logprobs),
      promptLogprobs: store(promptLogprobs),
      allowed: request.allowed,
      tokenMask: request.tokenMask,
    });
  });
}
