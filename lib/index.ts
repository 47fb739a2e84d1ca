// The package's entry: an engine that generates text from a model folder, inside this process.

import { createRequire } from 'node:module';

export type { RequestEvent, RequestMessage, StepItem, StepMessage } from './engine/channels.ts';
export { Engine } from './engine/engine.ts';
export type { EventLoopLag } from './engine/event-loop-lag.ts';
export type { Generation } from './engine/generation.ts';
export type { Histogram } from './engine/histogram.ts';
export type { CacheStats, EngineStats } from './engine/stats.ts';
export type {
  ChatMessage,
  DrainResult,
  EngineInfo,
  EngineLoad,
  EngineMemory,
  EngineOptions,
  FinishPart,
  FinishReason,
  GenerateOptions,
  GeneratePart,
  GenerateResult,
  LoadProgress,
  Logits,
  ModelInfo,
  NativeMemory,
  SamplingDefaults,
  TextPart,
  Timings,
  TokenIds,
  Usage,
} from './engine/types.ts';
export { type ErrorCode, errorCodes, SwiftKVError } from './errors.ts';
export { type Trace, traceTo } from './trace/chrome-trace.ts';

/** Of this package. */
export const version: string = (createRequire(import.meta.url)('../package.json') as { version: string }).version;
