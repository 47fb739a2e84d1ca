// How commands end: exit codes, and errors as one line instead of a stack trace.

import { CommanderError } from 'commander';
import { SwiftKVError } from '../errors.ts';

/** 0: done. 1: the work failed. 2: the command line is wrong. 3: `bench compare` found worse figures. 130: interrupted (128 + SIGINT).
 * 141: nobody reads the output any more (128 + SIGPIPE). */
export const exitCodes = { ok: 0, failed: 1, usage: 2, worse: 3, interrupted: 130, closedPipe: 141 } as const;

/** Prints what the user needs of an error to stderr and says the exit code. Defects keep their stack. */
export function reportError(error: unknown, stream: NodeJS.WritableStream = process.stderr): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  if (SwiftKVError.is(error)) {
    if (error.code === 'ERR_ABORTED') {
      stream.write('swiftkv: interrupted\n');
      return exitCodes.interrupted;
    }
    if (error.code !== 'ERR_INTERNAL') {
      stream.write(`swiftkv: ${error.message} (${error.code})\n`);
      return exitCodes.failed;
    }
  }
  const details = error instanceof Error ? (error.stack ?? error.message) : String(error);
  stream.write(`swiftkv: ${details}\nThis is a defect in swiftkv: please report it with the lines above.\n`);
  return exitCodes.failed;
}

/** Ends the process without a word when the reader of its output is gone, as after `swiftkv eval --help | head`. */
export function exitOnClosedPipe(stream: NodeJS.WritableStream = process.stdout): void {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(exitCodes.closedPipe);
    throw error;
  });
}

/** Aborts on the first Ctrl-C; a second one ends the process at once. */
export function interruptSignal(): AbortSignal {
  const controller = new AbortController();
  process.once('SIGINT', () => {
    controller.abort();
    process.once('SIGINT', () => process.exit(exitCodes.interrupted));
  });
  return controller.signal;
}

/** Ctrl-C goes back to its usual meaning when the command is over. */
export async function withInterrupt<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const signal = interruptSignal();
  try {
    return await work(signal);
  } finally {
    process.removeAllListeners('SIGINT');
  }
}
