// Writes a safetensors file piece by piece: tensors never have to be in memory together.

import { type FileHandle, open } from 'node:fs/promises';
import { type SafetensorsDType, safetensorsDTypes } from './safetensors.ts';

export interface TensorToWrite {
  name: string;
  dtype: SafetensorsDType;
  shape: readonly number[];
  /** Exactly the tensor's bytes: row-major, little-endian. */
  data: Uint8Array | AsyncIterable<Uint8Array>;
}

/**
 * Writes the header and then every tensor, widest dtype first so that all of them are aligned. The file is flushed to
 * disk; a file that exists is an error.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>> = { format: 'pt' },
): Promise<void> {
  const ordered = [...tensors].sort((a, b) => {
    const width = safetensorsDTypes[b.dtype] - safetensorsDTypes[a.dtype];
    return width || (a.name < b.name ? -1 : 1);
  });
  const entries: [string, unknown][] = [['__metadata__', metadata]];
  let end = 0;
  for (const { name, dtype, shape } of ordered) {
    const begin = end;
    end += shape.reduce((product, n) => product * n, safetensorsDTypes[dtype]);
    entries.push([name, { dtype, shape, data_offsets: [begin, end] }]);
  }
  const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)), 'utf8');
  const header = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ');
  header.writeBigUInt64LE(BigInt(header.length - 8));
  json.copy(header, 8);
  const file = await open(path, 'wx');
  try {
    await writeAll(file, header);
    for (const { data } of ordered) {
      if (data instanceof Uint8Array) await writeAll(file, data);
      else for await (const piece of data) await writeAll(file, piece);
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await file.write(bytes, done)).bytesWritten;
  }
}
