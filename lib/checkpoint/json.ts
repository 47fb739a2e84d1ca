// JSON files of a model folder, read strictly: JSON.parse keeps the last of two equal keys, which hides damage.

import { SwiftKVError } from '../errors.ts';

export type JsonObject = { [key: string]: unknown };

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A value from a file as text for a message: never long, and never an error, however deep the value is. */
export function quote(value: unknown): string {
  let text: string;
  try {
    text = JSON.stringify(value) ?? String(value);
  } catch {
    return 'a value that is nested too deeply';
  }
  return text.length <= 200 ? text : `${text.slice(0, 200)}...`;
}

/** @throws TypeError where `bytes` are not UTF-8 */
export function decodeUtf8(bytes: Uint8Array): string {
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
}

/**
 * Parses UTF-8 JSON whose top level is an object. `file` names the source in errors.
 * @throws ERR_MODEL_INVALID: not UTF-8, not JSON, not an object, or a key given twice in one object
 */
export function parseJsonObject(bytes: Uint8Array, file: string): JsonObject {
  let text: string;
  let value: unknown;
  try {
    text = decodeUtf8(bytes);
    refuseBombs(text, file);
    value = JSON.parse(text);
  } catch (error) {
    if (SwiftKVError.is(error)) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new SwiftKVError('ERR_MODEL_INVALID', `${file}: expected JSON in UTF-8 (${reason})`, { cause: error });
  }
  if (!isJsonObject(value)) {
    throw new SwiftKVError('ERR_MODEL_INVALID', `${file}: expected a JSON object at the top level`);
  }
  const duplicate = findDuplicateKey(text);
  if (duplicate !== null) {
    throw new SwiftKVError('ERR_MODEL_INVALID', `${file}: the key ${quote(duplicate)} is given twice`);
  }
  return value;
}

/** The largest header that its format allows has fewer: a tensor takes nine, and at least a hundred bytes. */
const maxValues = 9_000_000;
const maxDepth = 64;

/** Small text that takes gigabytes or minutes to parse: too many values, or nested too deeply. Allocates nothing. */
function refuseBombs(text: string, file: string): void {
  let depth = 0;
  let values = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 0x22 /* " */) {
      for (i++; i < text.length && text.charCodeAt(i) !== 0x22; i++) {
        if (text.charCodeAt(i) === 0x5c /* \ */) i++;
      }
    } else if (c === 0x2c /* , */) {
      values++;
    } else if (c === 0x7b /* { */ || c === 0x5b /* [ */) {
      values++;
      depth++;
    } else if (c === 0x7d /* } */ || c === 0x5d /* ] */) {
      depth--;
    }
    if (depth > maxDepth || values > maxValues) {
      const limit = depth > maxDepth ? `${maxDepth} levels` : `${maxValues} values`;
      throw new SwiftKVError('ERR_MODEL_INVALID', `${file}: expected JSON of at most ${limit}`);
    }
  }
}

/** The first key that occurs twice in one object of `text`, which must be valid JSON; null when there is none. */
export function findDuplicateKey(text: string): string | null {
  // One entry per open bracket: the keys seen so far, or null inside an array.
  const open: (Set<string> | null)[] = [];
  let keyNext = false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 0x22 /* " */) {
      const start = i;
      for (i++; text.charCodeAt(i) !== 0x22; i++) {
        if (text.charCodeAt(i) === 0x5c /* \ */) i++;
      }
      if (keyNext) {
        const raw = text.slice(start + 1, i);
        const key = raw.includes('\\') ? (JSON.parse(`"${raw}"`) as string) : raw;
        const keys = open[open.length - 1]!;
        if (keys.has(key)) return key;
        keys.add(key);
        keyNext = false;
      }
    } else if (c === 0x7b /* { */) {
      open.push(new Set());
      keyNext = true;
    } else if (c === 0x5b /* [ */) {
      open.push(null);
      keyNext = false;
    } else if (c === 0x7d /* } */ || c === 0x5d /* ] */) {
      open.pop();
      keyNext = false;
    } else if (c === 0x2c /* , */) {
      keyNext = open[open.length - 1] !== null;
    }
  }
  return null;
}
