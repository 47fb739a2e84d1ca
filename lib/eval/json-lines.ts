// Items of a JSONL file. Whatever is wrong with one names its file and line.

import { readFile } from 'node:fs/promises';
import { SwiftKVError } from '../errors.ts';

export interface Sourced {
  /** `file:line`, for messages. */
  where: string;
  /** What an item is called in results, whatever folder its file is in: its field `id`, or else its line. */
  id: string;
}

/**
 * One item a line; empty lines are skipped.
 * @param parse makes an item of a line's object, or throws what `field` and `wrongItem` throw
 * @throws ERR_IO, ERR_INVALID_ARGUMENT with file and line
 */
export async function readJsonLines<Item>(
  file: string,
  parse: (value: Record<string, unknown>, source: Sourced) => Item,
): Promise<Item[]> {
  const text = await readText(file);
  const items: Item[] = [];
  for (const [i, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    const where = `${file}:${i + 1}`;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (error) {
      throw new SwiftKVError('ERR_INVALID_ARGUMENT', `${where}: not JSON: ${(error as Error).message}`);
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw wrongItem(where, 'a JSON object', value);
    }
    const fields = value as Record<string, unknown>;
    const { id } = fields;
    const isName = typeof id === 'string' || typeof id === 'number';
    items.push(parse(fields, { where, id: isName ? String(id) : `line ${i + 1}` }));
  }
  if (items.length === 0) throw new SwiftKVError('ERR_INVALID_ARGUMENT', `${file} has no items`);
  return items;
}

/** @throws ERR_IO */
export async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new SwiftKVError('ERR_IO', `Reading ${file} failed: ${(error as Error).message}`, { cause: error });
  }
}

export function stringField(item: Record<string, unknown>, name: string, where: string): string {
  const value = item[name];
  if (typeof value !== 'string' || value === '') throw wrongItem(where, `a non-empty string ${name}`, value);
  return value;
}

export function wrongItem(where: string, expected: string, received: unknown): SwiftKVError {
  const text = JSON.stringify(received) ?? 'nothing';
  const shown = text.length > 80 ? `${text.slice(0, 77)}...` : text;
  return new SwiftKVError('ERR_INVALID_ARGUMENT', `${where}: expected ${expected} but received ${shown}`);
}

/** An item's failure, with the place of the item. An abort stays as it is. */
export function atItem(error: unknown, { where }: Sourced): unknown {
  if (!SwiftKVError.is(error) || error.code === 'ERR_ABORTED' || error.code === 'ERR_DISPOSED') return error;
  return new SwiftKVError(error.code, `${where}: ${error.message}`, { cause: error });
}
