// Messages as data: what a chat template may read of them is copied, and nothing else gets through.

import { SwiftKVError } from '../errors.ts';
import type { ChatMessage } from './tokenizer.ts';

/** Deeper than any tool schema; refuses cycles too. */
const maxDepth = 64;

/**
 * A copy of `messages` with all their fields, as JSON would carry them.
 * @throws SwiftKVError ERR_INVALID_ARGUMENT naming the field that is no plain data
 */
export function plainMessages(messages: readonly ChatMessage[]): ChatMessage[] {
  return messages.map((message, i) => plainCopy(message, `messages[${i}]`, 0) as ChatMessage);
}

function plainCopy(value: unknown, path: string, depth: number): unknown {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  if (depth > maxDepth) throw notPlain(path, `more than ${maxDepth} levels or a cycle`);
  if (Array.isArray(value)) return value.map((item, i) => plainCopy(item, `${path}[${i}]`, depth + 1));
  if (typeof value === 'object' && isPlain(value)) {
    const copy: [string, unknown][] = [];
    for (const [key, item] of Object.entries(value)) {
      if (item !== undefined) copy.push([key, plainCopy(item, `${path}.${key}`, depth + 1)]);
    }
    return Object.fromEntries(copy);
  }
  throw notPlain(path, typeof value === 'object' ? `an instance of ${value.constructor.name}` : `a ${typeof value}`);
}

/** Object literals of any realm, and objects without a prototype. */
function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function notPlain(path: string, received: string): SwiftKVError {
  return new SwiftKVError(
    'ERR_INVALID_ARGUMENT',
    `Expected ${path} to be strings, finite numbers, booleans, null, and arrays and plain objects of them, ` +
      `but received ${received} (generate)`,
  );
}

/** UTF-16 units of all strings in `value`, keys included; every other value counts as one. */
export function messagesLength(value: unknown): number {
  if (typeof value === 'string') return value.length;
  if (typeof value !== 'object' || value === null) return 1;
  let length = 1;
  for (const [key, item] of Object.entries(value)) length += key.length + messagesLength(item);
  return length;
}
