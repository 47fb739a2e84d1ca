// What attention knows of its rows: which sequence and position each belongs to, and where its keys are.

import { SwiftKVError } from '../errors.ts';
import type { Device } from './device.ts';
import type { BlockTable } from './paged-kv-cache.ts';
import { Tensor } from './tensor.ts';

/** Rows of one sequence: tokens `start` .. `start + length - 1`. */
export interface SequenceRows {
  table: BlockTable;
  start: number;
  length: number;
}

/** Operands that describe the rows of a call, in the order in which the sequences were given. */
export interface RowsDescription extends Disposable {
  /** [rows] i32 */
  positions: Tensor;
  /** [rows] i32: where the row's own K and V go */
  slots: Tensor;
  /** [sequences + 1] i32: first row of each sequence, then the number of rows */
  queryStart: Tensor;
  /** [sequences] i32: keys that exist once the rows have written their own */
  contextLen: Tensor;
  /** [sequences] i32: row of blockTables */
  tableRow: Tensor;
  /** [sequences, longest table] i32 */
  blockTables: Tensor;
}

/**
 * Describes rows for `qkv_rope_cache`, `swiftkv_project` and `attention`. Each row sees the keys 0 .. its own position.
 * Every table must have blocks up to `start + length`. Dispose of the description as a whole.
 */
export function describeRows(device: Device, sequences: readonly SequenceRows[]): RowsDescription {
  const positions: number[] = [];
  const slots: number[] = [];
  const queryStart = [0];
  for (const { table, start, length } of sequences) {
    if (!Number.isInteger(start) || start < 0 || !Number.isInteger(length) || length < 0) {
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        `Expected integers >= 0 for start and length but received ${start} and ${length}`,
      );
    }
    for (let p = start; p < start + length; p++) {
      positions.push(p);
      slots.push(table.slot(p));
    }
    queryStart.push(positions.length);
  }
  const stride = Math.max(1, ...sequences.map((s) => s.table.blocks.length));
  const tables = new Int32Array(sequences.length * stride);
  sequences.forEach((s, i) => {
    tables.set(s.table.blocks, i * stride);
  });
  const i32 = (values: ArrayLike<number>) => Tensor.from(device, Int32Array.from(values));
  const tensors = {
    positions: i32(positions),
    slots: i32(slots),
    queryStart: i32(queryStart),
    contextLen: i32(sequences.map((s) => s.start + s.length)),
    tableRow: i32(sequences.map((_, i) => i)),
    blockTables: Tensor.from(device, tables, [sequences.length, stride]),
  };
  return {
    ...tensors,
    [Symbol.dispose]() {
      for (const tensor of Object.values(tensors)) tensor.dispose();
    },
  };
}
