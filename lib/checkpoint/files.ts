// Reading small files of a model folder, with file system errors turned into coded ones.

import { type FileHandle, open, stat } from 'node:fs/promises';
import { type ErrorCode, SwiftKVError } from '../errors.ts';

/** Config-like files are read whole; more than this is not one. */
const maxSmallFileBytes = 100 * 1024 * 1024;

function ioError(path: string, error: unknown, missing: ErrorCode): SwiftKVError {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new SwiftKVError(missing, `${path} does not exist`, { cause: error });
  }
  return new SwiftKVError('ERR_IO', `Reading ${path} failed: ${message}`, { cause: error });
}

/** Bytes of a regular file. `missing` is the code for a file that does not exist. */
export async function fileSize(path: string, missing: ErrorCode): Promise<number> {
  let info: Awaited<ReturnType<typeof stat>>;
  try {
    info = await stat(path);
  } catch (error) {
    throw ioError(path, error, missing);
  }
  // Opening a FIFO would wait for a writer, so this comes before any open.
  if (!info.isFile()) {
    const received = info.isDirectory() ? 'a folder' : 'a pipe, socket or device';
    throw new SwiftKVError(
      'ERR_MODEL_INVALID',
      `${path}: expected a regular file but it is ${received}; remove it, or put the model's file there`,
    );
  }
  return info.size;
}

/** Whether there is something of that name. What is there and no regular file is refused when it is read. */
export async function fileExists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return false;
    throw ioError(path, error, 'ERR_IO');
  }
}

/** A whole small file. `missing` is the code for a file that does not exist. */
export async function readSmallFile(path: string, missing: ErrorCode): Promise<Uint8Array> {
  const size = await fileSize(path, missing);
  if (size > maxSmallFileBytes) {
    throw new SwiftKVError(
      'ERR_MODEL_INVALID',
      `${path}: expected at most ${maxSmallFileBytes} bytes but the file has ${size}; is it the right file?`,
    );
  }
  return readRange(path, 0, size);
}

/** `length` bytes at `offset`. @throws ERR_IO when the file is shorter */
export async function readRange(path: string, offset: number, length: number): Promise<Uint8Array> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, 'r');
    const bytes = new Uint8Array(length);
    let done = 0;
    while (done < length) {
      const { bytesRead } = await handle.read(bytes, done, length - done, offset + done);
      if (bytesRead === 0) {
        throw new SwiftKVError('ERR_IO', `${path} ended at byte ${offset + done}; it was cut while being read`);
      }
      done += bytesRead;
    }
    return bytes;
  } catch (error) {
    if (SwiftKVError.is(error)) throw error;
    throw ioError(path, error, 'ERR_IO');
  } finally {
    await handle?.close();
  }
}
