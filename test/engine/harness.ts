// Shared by the engine's tests: an engine over the fake, and small waits.

import { afterEach, expect } from 'vitest';
import { BlockManager } from '../../lib/engine/block-manager.ts';
import { Engine } from '../../lib/engine/engine.ts';
import type { ServiceOptions } from '../../lib/engine/engine-options.ts';
import { Scheduler, type SchedulerLimits } from '../../lib/engine/scheduler.ts';
import { Sequence, type SequenceOptions } from '../../lib/engine/sequence.ts';
import type { Tokenizer } from '../../lib/tokenizer/tokenizer.ts';
import { complaints } from './check-batch.ts';
import { fakeConfig } from './fake-model.ts';
import { type FakeOptions, FakeRunner } from './fake-runner.ts';

afterEach(() => expect(complaints.splice(0)).toEqual([]));

export function fakeEngine(options: FakeOptions & Partial<ServiceOptions> & { tokenizer?: Tokenizer } = {}) {
  const {
    tokenizer = null,
    maxStepMs = 250,
    maxQueued = 1000,
    queueTimeoutMs = null,
    prefixCaching = false,
    ...rest
  } = options;
  const runner = new FakeRunner(rest);
  const defaults = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, source: 'built-in' as const };
  const engine = new Engine({
    model: runner,
    tokenizer,
    defaults,
    service: { maxStepMs, maxQueued, queueTimeoutMs, prefixCaching },
  });
  return { engine, runner };
}

export const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Turns the event loop until `condition` holds. */
export async function until(condition: () => boolean, turns = 10_000): Promise<void> {
  for (let i = 0; i < turns; i++) {
    if (condition()) return;
    await turn();
  }
  throw new Error(`still not so after ${turns} turns: ${condition}`);
}

/** A prompt of `length` tokens that no other `salt` shares. */
export function prompt(length: number, salt = 0, vocabSize = 97): number[] {
  return Array.from({ length }, (_, i) => (i * 31 + salt * 17 + ((i * i + salt) % 7)) % vocabSize);
}

export function sequence(length: number, maxTokens: number, more: Partial<SequenceOptions> = {}) {
  return new Sequence({ prompt: Int32Array.from(prompt(length, length)), maxTokens, stopIds: new Set(), ...more });
}

const config = fakeConfig(97, []);

/** A scheduler with a model in the shape of the fake's. */
export function makeScheduler(numBlocks: number, limits: Partial<SchedulerLimits> = {}) {
  const blocks = new BlockManager(numBlocks, { prefixCaching: true });
  const scheduler = new Scheduler(
    config,
    {
      maxRows: 64,
      maxSeqs: 8,
      maxLogitRows: 16,
      maxScoredRows: 16,
      maxWaiting: 1000,
      maxModelLen: 512,
      maxStepMs: 250,
      ...limits,
    },
    blocks,
  );
  return { blocks, scheduler, config };
}

/** A tokenizer of one id per UTF-8 byte, so that characters of several bytes stretch over tokens. */
export function byteTokenizer(): Tokenizer & { disposals: number } {
  const tokenizer: Tokenizer & { disposals: number } = {
    disposals: 0,
    async encode(text) {
      return Int32Array.from(new TextEncoder().encode(text));
    },
    minTokens: (text) => text.length,
    decode: (ids) => new TextDecoder().decode(Uint8Array.from(ids)),
    streamDecoder() {
      const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
      return {
        push: (id) => decoder.decode(Uint8Array.of(id), { stream: true }),
        end: () => decoder.decode(),
      };
    },
    hasChatTemplate: true,
    numWorkers: 0,
    byteLength: () => null,
    renderChat: async (messages) => messages.map((m) => `<${m.role}>${m.content}`).join(''),
    async dispose() {
      tokenizer.disposals++;
    },
  };
  return tokenizer;
}
