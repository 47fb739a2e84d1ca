// A file of trace events that is valid JSON after every write, so that a process may end at any time.

import { closeSync, openSync, writeSync } from 'node:fs';
import { SwiftKVError } from '../errors.ts';

/** One event of the Chrome trace-event format; times in microseconds. */
export interface TraceEvent {
  name: string;
  /** X: a slice with a duration. B, E: where one begins and ends. C: counters. M: name or place of a process or a track. */
  ph: 'X' | 'B' | 'E' | 'C' | 'M';
  pid: number;
  tid: number;
  ts: number;
  dur?: number;
  args: Record<string, string | number>;
}

/** Where events go. */
export type TraceSink = (event: TraceEvent) => void;

const head = '{"displayTimeUnit":"ms","traceEvents":[\n';
const tail = '\n]}\n';
/** Characters that are kept before they are written. */
const bufferLength = 1 << 16;

/** Writes synchronously, in pieces of 64 KiB; a piece overwrites the end of the file that the one before it wrote. */
export class TraceEventFile {
  private readonly path: string;
  private readonly fd: number;
  private text = head;
  private first = true;
  private position = 0;
  private open = true;
  private error: SwiftKVError | null = null;

  /** @throws ERR_IO */
  constructor(path: string) {
    this.path = path;
    try {
      this.fd = openSync(path, 'w');
    } catch (error) {
      throw this.ioError(error);
    }
  }

  /** Never throws: `close` tells what went wrong. */
  add(event: TraceEvent): void {
    if (!this.open || this.error !== null) return;
    this.text += (this.first ? '' : ',\n') + JSON.stringify(event);
    this.first = false;
    if (this.text.length >= bufferLength) this.flush();
  }

  /** Idempotent. @throws ERR_IO if anything could not be written */
  close(): void {
    if (this.open) {
      this.flush();
      this.open = false;
      closeSync(this.fd);
    }
    if (this.error !== null) throw this.error;
  }

  private flush(): void {
    const bytes = Buffer.from(this.text + tail);
    try {
      let written = 0;
      while (written < bytes.length) {
        written += writeSync(this.fd, bytes, written, bytes.length - written, this.position + written);
      }
    } catch (error) {
      this.error ??= this.ioError(error);
    }
    this.position += bytes.length - tail.length;
    this.text = '';
  }

  private ioError(cause: unknown): SwiftKVError {
    return new SwiftKVError('ERR_IO', `Writing the trace ${this.path} failed: ${(cause as Error).message}`, { cause });
  }
}
