// On the embedded models: a request whose prompt begins in the prefix cache, that was forked from another answer, or that was
// thrown out and came back, gives the same tokens and log-probabilities, to the bit, as alone without a prefix cache.

import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { BlockManager } from '../../lib/engine/block-manager.ts';
import { EngineLoop } from '../../lib/engine/engine-loop.ts';
import { Job } from '../../lib/engine/job.ts';
import { LogprobStore } from '../../lib/engine/logprob-store.ts';
import { rootOf } from '../../lib/engine/prefix-cache.ts';
import { Scheduler } from '../../lib/engine/scheduler.ts';
import { Sequence, SequenceGroup } from '../../lib/engine/sequence.ts';
import type { TokenLogprob } from '../../lib/engine/types.ts';
import type { LoadOptions } from '../../lib/model/load.ts';
import { greedy } from '../../lib/sampling/options.ts';
import { prompt } from './harness.ts';
import { type RecordingModel, recordingModel } from './recording-model.ts';

const folder = (name: string) => fileURLToPath(new URL(`../../${name}`, import.meta.url));

interface Request {
  tokenIds: number[];
  maxTokens: number;
  /** Answers; each is drawn with its own random numbers. */
  n: number;
  fullDepth: boolean;
}

/** Every second prompt leaves the common text at its own place, on and beside block edges. */
const text = prompt(320, 3, 250);
const requests: Request[] = [1, 15, 16, 17, 33, 48, 100, 161, 176, 177, 300].flatMap((length, i) => {
  const own = prompt(20, 40 + i, 250);
  const base = { maxTokens: 6 + 5 * (i % 3), fullDepth: i % 4 === 1 };
  return [
    { ...base, tokenIds: text.slice(0, length), n: 1 + (i % 3) },
    { ...base, tokenIds: [...text.slice(0, length), ...own], n: 1 + ((i + 1) % 2) },
  ];
});
const numAnswers = requests.reduce((sum, { n }) => sum + n, 0);

type Answer = TokenLogprob[];

interface World {
  model: RecordingModel;
  blocks: BlockManager;
  scheduler: Scheduler;
  loop: EngineLoop;
  sequences: Sequence[];
}

async function start(name: string, options: Partial<LoadOptions>, prefixCaching: boolean): Promise<World> {
  const model = await recordingModel(folder(name), { maxModelLen: 512, kvCacheBytes: 8 << 20, ...options });
  const { config, capacity, numBlocks, maxModelLen } = model;
  const blocks = new BlockManager(numBlocks, { prefixCaching });
  const limits = { ...capacity, maxScoredRows: 1, maxWaiting: 1000, maxModelLen, maxStepMs: 250 };
  const scheduler = new Scheduler(config, limits, blocks);
  const loop = new EngineLoop(model, scheduler);
  loop.onStep = () => scheduler.checkIntegrity();
  return { model, blocks, scheduler, loop, sequences: [] };
}

/** Answers to a request: `choices` of them, as one request with a common prompt. */
function ask(world: World, request: Request, choices: readonly number[], salt = ''): Promise<Answer[]> {
  const { tokenIds, maxTokens, fullDepth } = request;
  const group = choices.length > 1 ? new SequenceGroup() : null;
  const jobs: Job[] = [];
  const answers = choices.map((choice) => {
    const sequence = new Sequence({
      prompt: Int32Array.from(tokenIds),
      maxTokens,
      stopIds: new Set(),
      fullDepth,
      logprobs: true,
      root: rootOf(salt),
      group,
    });
    world.sequences.push(sequence);
    const penalties = { repetitionPenalty: 1.2, frequencyPenalty: 0.3 };
    const sampler = choice === 0 ? greedy : { ...greedy, ...penalties, temperature: 0.8, seed: 42n, choice };
    const logprobs = new LogprobStore(2);
    return new Promise<Answer>((resolve, reject) => {
      const onUpdate = () => {
        if (sequence.state !== 'finished') return;
        resolve(logprobs.read(0, sequence.tokens.subarray(sequence.promptLength, sequence.length)));
      };
      jobs.push(new Job(sequence, sampler, { onUpdate, onError: reject }, { logprobs }));
    });
  });
  world.loop.submit(...jobs);
  return Promise.all(answers);
}

const choicesOf = ({ n }: Request) => Array.from({ length: n }, (_, i) => i);

/** Nothing is left, nothing was seen with two results, and no context has other bits than in the reference. */
async function finish(world: World, reference?: ReadonlyMap<string, string>): Promise<void> {
  const { model, blocks, scheduler } = world;
  scheduler.checkIntegrity();
  expect([blocks.numFree, model.contradictions, model.errors]).toEqual([blocks.numBlocks, 0, []]);
  if (reference !== undefined) {
    for (const [context, bits] of model.seen) {
      if ((reference.get(context) ?? bits) !== bits) throw new Error('the logits of a context differ in their bits');
    }
  }
  await model.dispose();
}

const models: [string, string, Partial<LoadOptions>][] = [
  ['SwiftKV in bf16', 'models/swiftkv-50', { threads: 2 }],
  ['SwiftKV with an fp8 cache', 'models/swiftkv-50', { threads: 2, kvCacheDtype: 'fp8' }],
  ['4-way AcrossKV', 'models/swiftkv-50-g4', { threads: 2 }],
  ['4-way AcrossKV with an fp8 cache', 'models/swiftkv-50-g4', { threads: 2, kvCacheDtype: 'fp8' }],
  ['a plain Llama in f32', 'models/base', { threads: 2, dtype: 'f32' }],
  ['scalar kernels', 'test/golden/data/llama_swiftkv_g2', { threads: 2, isa: 'scalar' }],
];

describe.each(models)('%s', (_, name, options) => {
  let seen: ReadonlyMap<string, string>;
  let alone: Answer[][];

  beforeAll(async () => {
    const world = await start(name, options, false);
    alone = [];
    for (const request of requests) {
      const answers: Answer[] = [];
      for (const choice of choicesOf(request)) answers.push(...(await ask(world, request, [choice])));
      alone.push(answers);
    }
    expect(world.sequences.every((s) => s.cachedTokens === 0)).toBe(true);
    seen = world.model.seen;
    await finish(world);
  });

  it('is the same when prompts begin in the cache, one after the other', async () => {
    const world = await start(name, { ...options, maxRows: 64, maxSeqs: 8 }, true);
    for (const [i, request] of requests.entries()) {
      expect(await ask(world, request, choicesOf(request))).toEqual(alone[i]);
    }
    const { hitTokens } = world.blocks.prefixStats;
    // All of a prompt that came before it, and never its last token.
    for (const s of world.sequences) expect(s.cachedTokens).toBeLessThan(s.promptLength);
    expect(world.sequences.filter((s) => s.cachedTokens >= 16).length).toBeGreaterThan(numAnswers / 2);
    expect(hitTokens).toBeGreaterThan(1000);
    // Again, with everything in the cache; for another tenant, with nothing; and after a reset.
    for (const [salt, expected] of [
      ['', 288],
      ['another tenant', 0],
    ] as const) {
      expect(await ask(world, requests.at(-2)!, [0], salt)).toEqual(alone.at(-2)!.slice(0, 1));
      expect(world.sequences.at(-1)!.cachedTokens).toBe(expected);
    }
    world.blocks.resetPrefixCache();
    expect(await ask(world, requests.at(-2)!, [0])).toEqual(alone.at(-2)!.slice(0, 1));
    expect(world.sequences.at(-1)!.cachedTokens).toBe(0);
    await finish(world, seen);
  });

  it('is the same when all come at once, and answers fork', async () => {
    const world = await start(name, { ...options, maxRows: 48, maxSeqs: 12 }, true);
    let copies = 0;
    world.loop.onStep = (plan) => {
      world.scheduler.checkIntegrity();
      copies += plan.numCopies;
    };
    const answers = await Promise.all(requests.map((request) => ask(world, request, choicesOf(request))));
    expect(answers).toEqual(alone);
    expect(copies).toBeGreaterThan(5);
    await finish(world, seen);
  });

  it('is the same without a cache of prefixes, where answers fork all the same', async () => {
    const world = await start(name, { ...options, maxRows: 48, maxSeqs: 12 }, false);
    const answers = await Promise.all(requests.map((request) => ask(world, request, choicesOf(request))));
    expect(answers).toEqual(alone);
    expect(world.sequences.filter((s) => s.cachedTokens === s.promptLength - 1).length).toBeGreaterThan(5);
    await finish(world, seen);
  });

  it('is the same in a cache so small that sequences are thrown out and find what they had', async () => {
    const probe = await start(name, options, false);
    const kvCacheBytes = 26 * 16 * probe.model.kvBytesPerToken;
    await finish(probe);
    const world = await start(name, { ...options, maxRows: 64, maxSeqs: 12, kvCacheBytes }, true);
    let foundAgain = 0;
    world.loop.onStep = (plan) => {
      world.scheduler.checkIntegrity();
      for (let i = 0; i < plan.size; i++) {
        const { sequence, start: first } = plan.items[i]!;
        if (sequence.numPreemptions > 0 && sequence.slot >= 0 && first > 0) foundAgain++;
      }
    };
    const others = Array.from({ length: 9 }, (_, i) => ({
      tokenIds: prompt(14, 60 + i, 250),
      maxTokens: 100,
      n: 1,
      fullDepth: false,
    }));
    const results = await Promise.all([...others, ...requests].map((r) => ask(world, r, choicesOf(r))));
    expect(results.slice(others.length)).toEqual(alone);
    expect(world.scheduler.numPreemptions).toBeGreaterThan(2);
    expect(foundAgain).toBeGreaterThan(0);
    expect(world.blocks.prefixStats.evictions).toBeGreaterThan(10);
    await finish(world, seen);
  });
});
