// What an aborted signal is turned into.

import { SwiftKVError } from '../errors.ts';

export function abortError(signal: AbortSignal): SwiftKVError {
  return new SwiftKVError('ERR_ABORTED', 'Stopped by the signal', { cause: signal.reason });
}
