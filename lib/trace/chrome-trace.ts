// Traces all engines of this thread to a file in the Chrome trace-event format, for https://ui.perfetto.dev.

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { channelNames, type RequestMessage, type StepMessage } from '../engine/channels.ts';
import { TraceEventFile } from './event-file.ts';
import { TraceBuilder } from './trace-builder.ts';

export interface Trace {
  /** Ends the trace: what has not ended by now ends here. Idempotent. @throws ERR_IO if something was not written */
  close(): Promise<void>;
}

/**
 * Writes what engines do from now on: steps, JavaScript's work for them, and the phases of every answer. The file grows as
 * things end, in pieces of 64 KiB that the JavaScript thread writes, and is valid JSON after each; a process that exits
 * without `close` writes the last piece at its exit.
 * @throws ERR_IO
 */
export async function traceTo(path: string): Promise<Trace> {
  const file = new TraceEventFile(path);
  const builder = new TraceBuilder((event) => file.add(event));
  const onStep = (message: unknown) => builder.step(message as StepMessage);
  const onRequest = (message: unknown) => builder.request(message as RequestMessage);
  subscribe(channelNames.step, onStep);
  subscribe(channelNames.request, onRequest);
  const finish = () => {
    unsubscribe(channelNames.step, onStep);
    unsubscribe(channelNames.request, onRequest);
    process.removeListener('exit', onExit);
    builder.close(performance.now());
    file.close();
  };
  const onExit = () => {
    try {
      finish();
    } catch {
      // Nobody is left who could be told.
    }
  };
  process.on('exit', onExit);
  return { close: async () => finish() };
}

/** Traces `work` to `path`, if there is one. @throws ERR_IO, and what `work` throws */
export async function withTrace<T>(path: string | undefined, work: () => Promise<T>): Promise<T> {
  if (path === undefined) return work();
  const trace = await traceTo(path);
  try {
    return await work();
  } finally {
    await trace.close();
  }
}
