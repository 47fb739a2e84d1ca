// The package's entry: an engine that generates text from a model folder, inside this process.

import { createRequire } from 'node:module';

export { Engine } from './engine/engine.ts';
export type { Generation } from './engine/generation.ts';
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

/** Of this package. */
export const version: string = (createRequire(import.meta.url)('../package.json') as { version: string }).version;
