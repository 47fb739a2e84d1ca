// Checks the options of Engine.load and fills in the defaults that belong to the engine.

import { type DeviceName, parseDevice } from '../kernels/backend.ts';
import type { LoadOptions, LoadProgress } from '../model/load.ts';
import { activationDTypes, weightDTypes } from '../model/weight-dtype.ts';
import { chunkGranule } from './step-planner.ts';
import {
  checkBoolean,
  checkFunction,
  checkInteger,
  checkNumber,
  checkOneOf,
  checkOptions,
  checkSignal,
  checkString,
  checkTimeout,
} from './validate.ts';

const where = 'Engine.load';
const known = [
  'device',
  'dtype',
  'weightDtype',
  'activationDtype',
  'kvCacheDtype',
  'maxModelLen',
  'kvCacheBytes',
  'threads',
  'isa',
  'batchInvariant',
  'memoryLimit',
  'maxStepMs',
  'maxBatchRows',
  'maxSequences',
  'maxLogitRows',
  'prefixCaching',
  'maxQueued',
  'queueTimeoutMs',
  'signal',
  'onProgress',
] as const;

export const defaultMaxStepMs = 250;
const defaultMaxBatchRows = 512;
const defaultMaxSequences = 64;
const defaultMaxQueued = 1024;
const minLogitRows = 64;
const maxSequencesLimit = 1024;
const maxBatchRowsLimit = 16384;

export interface CheckedEngineOptions {
  model: LoadOptions;
  service: ServiceOptions;
}

/** How requests are served. */
export interface ServiceOptions {
  maxStepMs: number;
  prefixCaching: boolean;
  maxQueued: number;
  /** null: none. */
  queueTimeoutMs: number | null;
}

function checkDevice(value: unknown): DeviceName {
  const device = checkString('device', value, where);
  parseDevice(device, 'device', ` (${where})`);
  return device as DeviceName;
}

/** @throws ERR_INVALID_ARGUMENT */
export function checkEngineOptions(value: unknown): CheckedEngineOptions {
  const options = checkOptions(value, known, where);
  const positive = (name: string) =>
    options[name] === undefined ? undefined : checkInteger(name, options[name], where, 1);
  const { device = 'cpu', dtype = 'auto', weightDtype = 'auto', activationDtype = 'auto' } = options;
  const { kvCacheDtype, isa, batchInvariant, signal, onProgress } = options;
  const { maxStepMs = defaultMaxStepMs, maxSequences = defaultMaxSequences } = options;
  const { prefixCaching = true, maxQueued = defaultMaxQueued, queueTimeoutMs } = options;
  const maxSeqs = checkInteger('maxSequences', maxSequences, where, 1, maxSequencesLimit);
  // Every running answer has its row and its logit row in every step, and a prompt beside them gets a chunk.
  const minRows = maxSeqs + chunkGranule;
  const { maxBatchRows = Math.max(defaultMaxBatchRows, minRows) } = options;
  const maxRows = checkInteger('maxBatchRows', maxBatchRows, where, minRows, maxBatchRowsLimit);
  const { maxLogitRows = Math.min(maxRows, Math.max(minLogitRows, maxSeqs)) } = options;
  return {
    service: {
      maxStepMs: checkNumber('maxStepMs', maxStepMs, where, { min: 0, aboveMin: true }),
      prefixCaching: checkBoolean('prefixCaching', prefixCaching, where),
      maxQueued: checkInteger('maxQueued', maxQueued, where, 1),
      queueTimeoutMs: queueTimeoutMs === undefined ? null : checkTimeout('queueTimeoutMs', queueTimeoutMs, where),
    },
    model: {
      device: checkDevice(device),
      dtype: checkOneOf('dtype', dtype, where, ['auto', 'f32', 'bf16']),
      weightDtype: checkOneOf('weightDtype', weightDtype, where, weightDTypes),
      activationDtype: checkOneOf('activationDtype', activationDtype, where, activationDTypes),
      kvCacheDtype:
        kvCacheDtype === undefined
          ? undefined
          : checkOneOf('kvCacheDtype', kvCacheDtype, where, ['f32', 'bf16', 'fp8'] as const),
      maxModelLen: positive('maxModelLen'),
      kvCacheBytes: positive('kvCacheBytes'),
      threads: positive('threads'),
      isa: isa === undefined ? undefined : checkString('isa', isa, where),
      batchInvariant: batchInvariant === undefined ? undefined : checkBoolean('batchInvariant', batchInvariant, where),
      memoryLimit: positive('memoryLimit'),
      maxRows,
      maxSeqs,
      maxLogitRows: checkInteger('maxLogitRows', maxLogitRows, where, maxSeqs, maxRows),
      signal: signal === undefined ? undefined : checkSignal('signal', signal, where),
      onProgress:
        onProgress === undefined
          ? undefined
          : checkFunction<(progress: LoadProgress) => void>('onProgress', onProgress, where),
    },
  };
}
