// The public types of the in-process engine.

import type { DeviceName } from '../kernels/backend.ts';
import type { LoadProgress } from '../model/load.ts';
import type { ModelInfo, ModelMemory } from '../model/model-info.ts';
import type { NativeMemory } from '../native/binding.ts';
import type { ChatMessage } from '../tokenizer/tokenizer.ts';

export type { ChatMessage, LoadProgress, ModelInfo, NativeMemory };

/** What `Engine.load` takes besides the folder. Every choice made from it is visible in `engine.info()`. */
export interface EngineOptions {
  /** 'cpu' (default), 'cuda' (its first device) or 'cuda:N'. */
  device?: DeviceName | undefined;
  /** What matrix products are computed in; 'auto' (default): bf16 when the weights are stored in 16 bits, else f32. */
  dtype?: 'auto' | 'f32' | 'bf16' | undefined;
  /**
   * What the layers' matrices are kept in. 'auto' (default): FP8 checkpoints stay FP8, others take the compute dtype.
   * 'fp8' (a scale per output), 'int8' (a scale per output; activations become int8 in groups of 32) and 'int4' (a scale
   * per output and 32 inputs; activations as for int8) quantize at load. The head keeps at least 8 bits.
   */
  weightDtype?: 'auto' | 'fp8' | 'int8' | 'int4' | undefined;
  /** 'fp8': rows that enter products with FP8 weights become FP8, a dynamic scale each. 'auto' (default): they stay. */
  activationDtype?: 'auto' | 'fp8' | undefined;
  /** Default: the compute dtype. */
  kvCacheDtype?: 'f32' | 'bf16' | 'fp8' | undefined;
  /** Tokens a sequence may have, prompt and answer together; at most the model's own limit. */
  maxModelLen?: number | undefined;
  /**
   * Bytes of the KV cache, rounded down to whole blocks of 16 tokens. Default: eight sequences of `maxModelLen`, and at
   * most a quarter of what the machine and the cgroups' limits leave beside weights and workspace; on cuda
   * `maxSequences` of them, and at most nine tenths of what is free on the device.
   */
  kvCacheBytes?: number | undefined;
  /** Threads the kernels may use; default from CPU affinity and the cgroup quota. */
  threads?: number | undefined;
  /** cpu: ISA level of the kernels; default: the best that this machine can run. */
  isa?: string | undefined;
  /**
   * Bits of a row never depend on the rows beside it: an answer is the same alone and in a batch. Default true; the cpu
   * knows nothing else. False lets cuda choose what is faster for a batch.
   */
  batchInvariant?: boolean | undefined;
  /** Bytes of the device's memory that may be taken, e.g. to share a GPU; default: all. Not for cpu. */
  memoryLimit?: number | undefined;
  /** What a step that mixes prompts and running answers aims at, milliseconds; default 250. */
  maxStepMs?: number | undefined;
  /** Rows (tokens) of one step; default 512. Must leave 16 rows beside one per sequence. */
  maxBatchRows?: number | undefined;
  /** Sequences that run at once; default 64. */
  maxSequences?: number | undefined;
  /**
   * Rows of one step whose logits are computed; at least one per sequence, default 64 or that. Scoring prompts
   * (`promptLogprobs`, `logits`) goes so many tokens a step; each takes 4 bytes per entry of the vocabulary.
   */
  maxLogitRows?: number | undefined;
  /**
   * Keep the K and V of prompts and answers while their room is not needed, for requests that begin with the same tokens.
   * Default true.
   */
  prefixCaching?: boolean | undefined;
  /** Requests that wait at most, beside those that could start at once; default 1024. More are refused: ERR_QUEUE_FULL. */
  maxQueued?: number | undefined;
  /**
   * For `generate` requests that do not say: milliseconds in the queue after which one that still waits fails with
   * ERR_QUEUE_TIMEOUT. Default none.
   */
  queueTimeoutMs?: number | undefined;
  /** Stops the loading; it then rejects with ERR_ABORTED. Has no effect once the engine is there. */
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: LoadProgress) => void) | undefined;
}

export type TokenIds = readonly number[] | Int32Array | Uint32Array | Uint16Array;

/** Exactly one of `prompt`, `messages` and `tokenIds` says what to continue. */
export interface GenerateOptions {
  /** Text; a BOS is added where the tokenizer does so. */
  prompt?: string | undefined;
  /** A conversation, rendered with the model's chat template. */
  messages?: readonly ChatMessage[] | undefined;
  /** Token ids, used as they are. Works without a tokenizer. */
  tokenIds?: TokenIds | undefined;
  /** Tokens to generate at most; default: what the context and the KV cache have room for. */
  maxTokens?: number | undefined;
  /**
   * 0 takes the most likely token. Default: 0 when the model's generation_config.json says `do_sample: false`, else its
   * temperature, else 1. `engine.info().defaults` shows it.
   */
  temperature?: number | undefined;
  /** Only the k most likely tokens; 0 or -1 = off (default, unless generation_config.json says otherwise). */
  topK?: number | undefined;
  /** Only the most likely tokens that make up this probability; 1 = off (default, as above). */
  topP?: number | undefined;
  /** Only tokens at least this fraction as likely as the most likely one; 0 = off (default, as above). */
  minP?: number | undefined;
  /** Of the random numbers, 0 to 2^64 - 1; default: random. The result reports it. */
  seed?: number | bigint | undefined;
  /**
   * Above 1: tokens of the prompt and the answer become less likely (a positive logit is divided by it, a negative one
   * multiplied). Default: generation_config.json's, else 1 = off.
   */
  repetitionPenalty?: number | undefined;
  /** Subtracted from the logit of every token that the answer has already; -100 to 100, default 0. */
  presencePenalty?: number | undefined;
  /** Subtracted from a token's logit once for each time the answer has it already; -100 to 100, default 0. */
  frequencyPenalty?: number | undefined;
  /** What is added to the logits of some tokens, by id: -1000 to 1000, or -Infinity, which forbids the token. */
  logitBias?: Readonly<Record<number, number>> | ReadonlyMap<number, number> | undefined;
  /** No token but these is chosen. */
  allowedTokenIds?: TokenIds | undefined;
  /**
   * Called before each token with the answer so far (valid during the call): a mask of ceil(vocabSize / 32) words, in
   * which bit i % 32 of word floor(i / 32) allows token i, or null to allow all. Holds beside `allowedTokenIds`. Runs on
   * the JavaScript thread while the batch waits, so it should be quick; the mask is copied.
   */
  tokenMask?: ((outputIds: Int32Array) => Uint32Array | null) | undefined;
  /**
   * Texts that end the answer, up to 64 of up to 1,000 UTF-16 units, wherever tokens begin and end. The one that is
   * complete first counts. Needs a tokenizer.
   */
  stop?: string | readonly string[] | undefined;
  /** Whether the answer's text has the stop string that ended it. Default false. */
  includeStop?: boolean | undefined;
  /** Tokens that end the answer besides the model's own. */
  stopTokenIds?: TokenIds | undefined;
  /** Go on after the model's end-of-sequence tokens. `stopTokenIds` still stop. Default false. */
  ignoreEos?: boolean | undefined;
  /** Until the answer has this many tokens, no ending token is chosen and no stop string looked for. Default 0. */
  minTokens?: number | undefined;
  /** Leave special tokens out of the text. Default true. */
  skipSpecialTokens?: boolean | undefined;
  /** Report the log-probability of each token of the answer, and of this many most likely ones beside it, 0 to 20. */
  logprobs?: number | undefined;
  /**
   * The same for each token of the prompt, given those before it. Implies `fullDepth`; `maxTokens` may then be 0, which
   * scores a text and generates nothing. Only `result()` reports them.
   */
  promptLogprobs?: number | undefined;
  /**
   * Answers to generate, 1 to 64; default 1. They share the seed, the prompt's K and V and everything else, and differ in
   * the random numbers drawn. The first is the one that `n: 1` gives.
   */
  n?: number | undefined;
  /** Requests of higher priority are served first, and may take the place of others, who go on later. An integer, default 0. */
  priority?: number | undefined;
  /** Requests share cached prefixes only with those of the same salt, e.g. one per tenant. Default ''. */
  cacheSalt?: string | undefined;
  /** Milliseconds after which the request fails with ERR_QUEUE_TIMEOUT if it still waits for others. Default: the engine's. */
  queueTimeoutMs?: number | undefined;
  /**
   * Tokens of one answer that may wait for a slow reader of the stream. When there are so many, the answer pauses until they
   * are taken (one more may be on its way), and others go on. Default 1024.
   */
  maxBufferedTokens?: number | undefined;
  /** Run every layer on every prompt token (student mode, for evaluation); answers are the same. Default false. */
  fullDepth?: boolean | undefined;
  /** Aborting it rejects with ERR_ABORTED at once and frees the request's blocks within one step. */
  signal?: AbortSignal | undefined;
}

/** 'stop': the model, a stop token or a stop string ended it; 'length': maxTokens reached. */
export type FinishReason = 'stop' | 'length';

/** Of the model's own distribution: before penalties, biases, masks and temperature. */
export interface TokenLogprob {
  tokenId: number;
  /** Natural logarithm. */
  logprob: number;
  /** 1 = the most likely token. */
  rank: number;
  /** The most likely tokens, as many as were asked for, the most likely one first. */
  top: { tokenId: number; logprob: number }[];
}

/** Counts of one request. Row-layers are counted natively: one for each row that enters one layer. */
export interface Usage {
  promptTokens: number;
  /** Of those, the ones that were in the KV cache when the request first ran: a cached prefix, or another answer's prompt. */
  cachedTokens: number;
  /** Tokens generated, a stop token included. */
  completionTokens: number;
  /** Row-layers run for this request; after a preemption, recomputed rows count again. */
  rowLayersRun: number;
  /** Row-layers that its rows would have taken at full depth, and did not. */
  rowLayersSkipped: number;
  /** Times the request lost its blocks to older ones and was recomputed. */
  preemptions: number;
}

/** Milliseconds are wall time. null: there was nothing to measure (a single token has no time between tokens). */
export interface Timings {
  /** From consumption (tokenizing included) to the start of the first step. */
  queueMs: number;
  /** Time to first token, from consumption; where none was asked for, to the end of the prompt. */
  ttftMs: number;
  /** Mean time per output token, the first one excluded; pauses for a slow reader and preemptions included. */
  tpotMs: number | null;
  totalMs: number;
  /** Prompt tokens that were computed over the time from the start of the first step to the first token. */
  prefillTokensPerSecond: number;
  /** Tokens after the first one over the time they took. */
  decodeTokensPerSecond: number | null;
}

export interface TextPart {
  type: 'text';
  /** Which of the `n` answers, from 0. */
  index: number;
  /** Never half a character. '' without a tokenizer, or when the tokens are special ones. */
  text: string;
  /** The tokens since the part before. A slow reader gets several in one part. */
  tokenIds: number[];
  /** One for each of tokenIds; null when `logprobs` was not asked for. */
  logprobs: TokenLogprob[] | null;
}

export interface FinishPart {
  type: 'finish';
  /** Which of the `n` answers has ended, from 0. */
  index: number;
  finishReason: FinishReason;
  /** The token or the string that ended the answer; null at 'length'. */
  stopReason: number | string | null;
  /** The seed that was used. */
  seed: number | bigint;
  usage: Usage;
  timings: Timings;
}

export type GeneratePart = TextPart | FinishPart;

export interface GenerateResult {
  /** Which of the `n` answers, from 0. */
  index: number;
  /** Without the stop token's text, and without the stop string unless `includeStop`; '' without a tokenizer. */
  text: string;
  /** All of them: with the stop token if one ended the answer, or with the tokens of the stop string. */
  tokenIds: number[];
  /** One for each of tokenIds; null when `logprobs` was not asked for. */
  logprobs: TokenLogprob[] | null;
  /** One for each prompt token, null for the first; null when `promptLogprobs` was not asked for. */
  promptLogprobs: (TokenLogprob | null)[] | null;
  finishReason: FinishReason;
  /** The token or the string that ended the answer; null at 'length'. */
  stopReason: number | string | null;
  seed: number | bigint;
  usage: Usage;
  timings: Timings;
}

/** Logits at every position of a text, every layer run on every row. */
export interface Logits {
  /** Positions. */
  rows: number;
  vocabSize: number;
  /** [rows, vocabSize], row-major. */
  data: Float32Array;
}

/** What a request uses when it does not say. */
export interface SamplingDefaults {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  repetitionPenalty: number;
  /** Where they come from. */
  source: 'generation_config.json' | 'built-in';
}

export interface EngineInfo extends ModelInfo {
  tokenizer: boolean;
  chatTemplate: boolean;
  maxStepMs: number;
  prefixCaching: boolean;
  maxQueued: number;
  /** null: requests wait for as long as it takes. */
  queueTimeoutMs: number | null;
  /** Positions that `engine.logits` takes at most. */
  maxLogitPositions: number;
  defaults: SamplingDefaults;
  load: EngineLoad;
}

export interface EngineMemory extends ModelMemory {
  /**
   * Threads that are there to tokenize long texts and to render chats, 0 to 2: a JavaScript isolate each, on top of these
   * bytes.
   */
  tokenizerWorkers: number;
}

/** How `drain` ended the requests that there were. */
export interface DrainResult {
  /** Those that ended by themselves, with an answer or an error. */
  finished: number;
  /** Those that the timeout, or `dispose`, ended. */
  aborted: number;
}

/** What the engine is doing now. */
export interface EngineLoad {
  running: number;
  waiting: number;
  /** Of the running and the waiting ones, those whose reader is slow. */
  paused: number;
  /** Blocks that can be handed out, cached ones included. */
  freeBlocks: number;
  /** Of those, the ones whose content is kept for requests that begin with the same tokens. */
  cachedBlocks: number;
  /** Since the engine was loaded. */
  steps: number;
  preemptions: number;
  /** What the scheduler believes a step costs: a fixed part, and one row through one layer. */
  fixedMs: number;
  msPerRowLayer: number;
}
