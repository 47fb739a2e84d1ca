// What requests ask for: prompts of random tokens, alone or in families that share a prefix. The same seed, the same
// requests.

import { SwiftKVError } from '../../errors.ts';
import { type Random, seededRandom } from '../random.ts';

export interface WorkItem {
  promptTokens: number;
  maxTokens: number;
  /** The prompt, for a vocabulary of that size. */
  tokenIds(vocabSize: number): Int32Array;
}

export interface LengthOptions {
  requests: number;
  /** Mean prompt and answer, tokens. */
  input: number;
  output: number;
  /** Lengths are uniform within mean * (1 +- spread). */
  spread: number;
  seed: number;
}

export interface PrefixOptions extends LengthOptions {
  /** Tokens of a shared prefix; they come on top of `input`. */
  prefixLength: number;
  /** Families; request i belongs to family i modulo this. */
  prefixCount: number;
}

/** Prompts that have nothing in common. */
export function randomWorkload(options: LengthOptions): WorkItem[] {
  const random = seededRandom(options.seed);
  return Array.from({ length: options.requests }, (): WorkItem => {
    const promptTokens = uniformAround(random, options.input, options.spread);
    const maxTokens = uniformAround(random, options.output, options.spread);
    const seed = random.below(2 ** 32);
    return { promptTokens, maxTokens, tokenIds: (vocabSize) => randomIds(promptTokens, vocabSize, seed) };
  });
}

/** Families take turns; what follows a family's prefix is the request's own. */
export function prefixWorkload(options: PrefixOptions): WorkItem[] {
  const { prefixLength, prefixCount, seed } = options;
  const random = seededRandom(seed ^ 0x5bd1e995);
  const seeds = Array.from({ length: prefixCount }, () => random.below(2 ** 32));
  return randomWorkload(options).map((own, i): WorkItem => {
    const prefixSeed = seeds[i % prefixCount]!;
    return {
      promptTokens: prefixLength + own.promptTokens,
      maxTokens: own.maxTokens,
      tokenIds: (vocabSize) => {
        const ids = new Int32Array(prefixLength + own.promptTokens);
        ids.set(randomIds(prefixLength, vocabSize, prefixSeed));
        ids.set(own.tokenIds(vocabSize), prefixLength);
        return ids;
      },
    };
  });
}

/** Positions of the longest request. @throws ERR_INVALID_ARGUMENT when there are no requests */
export function longestRequest(items: readonly WorkItem[]): number {
  if (items.length === 0) {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', 'Expected a workload of at least one request but received none');
  }
  return items.reduce((most, item) => Math.max(most, item.promptTokens + item.maxTokens), 0);
}

function uniformAround(random: Random, mean: number, spread: number): number {
  const low = Math.max(1, Math.ceil(mean * (1 - spread)));
  const high = Math.max(low, Math.floor(mean * (1 + spread)));
  return low + random.below(high - low + 1);
}

function randomIds(length: number, vocabSize: number, seed: number): Int32Array {
  const random = seededRandom(seed);
  return Int32Array.from({ length }, () => random.below(vocabSize));
}
