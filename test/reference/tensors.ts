// Tensors of a checkpoint as plain Float32Arrays, for the reference decoder and for expected values.

import { readFile } from 'node:fs/promises';
import type { Checkpoint } from '../../lib/checkpoint/checkpoint.ts';
import { type CheckpointTensor, readSafetensorsHeader } from '../../lib/checkpoint/safetensors.ts';

export interface HostTensor {
  shape: readonly number[];
  data: Float32Array;
}

export type HostTensors = ReadonlyMap<string, HostTensor>;

/** Every F32, BF16 and I32 tensor of a checkpoint, widened exactly. */
export async function readCheckpointTensors(checkpoint: Pick<Checkpoint, 'tensors'>): Promise<Map<string, HostTensor>> {
  return widen(checkpoint.tensors);
}

/** The same of one file. */
export async function readSafetensors(path: string): Promise<Map<string, HostTensor>> {
  return widen(await readSafetensorsHeader(path));
}

async function widen(tensors: ReadonlyMap<string, CheckpointTensor>): Promise<Map<string, HostTensor>> {
  const files = new Map<string, Buffer>();
  const result = new Map<string, HostTensor>();
  for (const [name, tensor] of tensors) {
    const bytes = files.get(tensor.path) ?? (await readFile(tensor.path));
    files.set(tensor.path, bytes);
    const part = new Uint8Array(bytes.subarray(tensor.offset, tensor.offset + tensor.byteLength)).buffer;
    result.set(name, { shape: tensor.shape, data: decode(part, tensor.dtype, name) });
  }
  return result;
}

function decode(bytes: ArrayBuffer, dtype: string, name: string): Float32Array {
  switch (dtype) {
    case 'F32':
      return new Float32Array(bytes);
    case 'I32':
      return Float32Array.from(new Int32Array(bytes));
    case 'U8':
      return Float32Array.from(new Uint8Array(bytes));
    case 'BF16':
      return new Float32Array(Uint32Array.from(new Uint16Array(bytes), (bits) => bits << 16).buffer);
    default:
      throw new Error(`${name} has the dtype ${dtype}`);
  }
}
