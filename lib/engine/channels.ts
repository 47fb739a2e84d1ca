// What the engines of a process tell of themselves on diagnostics_channel. Messages are made only while somebody listens.

import { channel } from 'node:diagnostics_channel';
import type { ErrorCode } from '../errors.ts';

/** Rows [start, start + count) of the tokens of one answer. */
export interface StepItem {
  request: number;
  index: number;
  start: number;
  count: number;
  /** Whether the step gives the answer its next token. */
  sample: boolean;
}

/**
 * On `swiftkv:step`, when a step's results have been applied. Moments are of performance.now(), in milliseconds. JavaScript
 * plans (scheduleMs) and writes the batch (fillMs) before `startedAt`; from then on it hands the batch to native code
 * (submitMs) and tells the listeners of the step before (notifyMs); from `endedAt` on it applies the results (applyMs).
 */
export interface StepMessage {
  /** Which engine of this thread, from 1 on. */
  engine: number;
  /** From 1 on. */
  step: number;
  startedAt: number;
  endedAt: number;
  scheduleMs: number;
  /** Writing the batch, setting samplers and masks. */
  fillMs: number;
  submitMs: number;
  /** Stop strings, and the decoding that they need; streams and results decode after it, when they are read. */
  notifyMs: number;
  applyMs: number;
  /** Tokens that entered the first layer, those that took every layer, and those whose logits were computed. */
  rows: number;
  survivors: number;
  logitRows: number;
  /** Blocks copied for answers that share a prompt. */
  copies: number;
  items: StepItem[];
  /** Answers, when the step had been planned; paused ones are among the running or the waiting. */
  running: number;
  waiting: number;
  /** Blocks that could be handed out, those kept for prefix hits included. */
  freeBlocks: number;
  /** Of all steps so far. */
  preemptions: number;
  /** Why the step gave no results: ERR_ABORTED when nobody was left to want them. */
  code?: ErrorCode;
}

export type RequestEvent =
  | 'queued'
  | 'started'
  | 'first token'
  | 'preempted'
  | 'paused'
  | 'resumed'
  | 'finished'
  | 'aborted'
  | 'failed';

/** On `swiftkv:request`, as it happens. */
export interface RequestMessage {
  engine: number;
  /** Counted per engine, from 1 on. The answers to one request share it. */
  request: number;
  /** Which answer, from 0 on. */
  index: number;
  event: RequestEvent;
  /** Of performance.now(), in milliseconds. */
  at: number;
  promptTokens: number;
  /** Prompt tokens that were in the cache when it started. */
  cachedTokens: number;
  completionTokens: number;
  /** Why it failed, or who aborted it. */
  code?: ErrorCode;
}

export const channelNames = { step: 'swiftkv:step', request: 'swiftkv:request' } as const;

/** What is used of a channel; the types of Node may be missing where this package is installed. */
interface Publisher<T> {
  readonly hasSubscribers: boolean;
  publish(message: T): void;
}

export const stepChannel: Publisher<StepMessage> = channel(channelNames.step);
export const requestChannel: Publisher<RequestMessage> = channel(channelNames.request);
