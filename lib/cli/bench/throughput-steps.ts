// What the engine's steps were like while something was measured, from its diagnostics channel.

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { channelNames, type StepMessage } from '../../engine/channels.ts';

/** Of all steps of a pass. */
export interface StepTotals {
  steps: number;
  rows: number;
  /** From the start of a step's native call to its end. */
  ms: number;
  /** JavaScript of the loop: planning, writing the batch, applying results and telling of them. */
  jsMs: number;
  /** Sequences that ran: summed over the steps, and at most. */
  running: number;
  maxRunning: number;
}

/** Runs `work` and adds up the steps of every engine of the process meanwhile. */
export async function withSteps<T>(work: () => Promise<T>): Promise<{ value: T; steps: StepTotals }> {
  const steps: StepTotals = { steps: 0, rows: 0, ms: 0, jsMs: 0, running: 0, maxRunning: 0 };
  const onStep = (message: unknown) => {
    const step = message as StepMessage;
    if (step.code !== undefined) return;
    steps.steps++;
    steps.rows += step.rows;
    steps.ms += step.endedAt - step.startedAt;
    steps.jsMs += step.scheduleMs + step.fillMs + step.notifyMs + step.applyMs;
    steps.running += step.running;
    steps.maxRunning = Math.max(steps.maxRunning, step.running);
  };
  subscribe(channelNames.step, onStep);
  try {
    return { value: await work(), steps };
  } finally {
    unsubscribe(channelNames.step, onStep);
  }
}
