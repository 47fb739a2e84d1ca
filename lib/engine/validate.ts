// Checks of caller's values, with one message shape: Expected X to be Y but received Z (where).

import { SwiftKVError } from '../errors.ts';

/** A value as it appears in an error message: short, on one line. */
export function describe(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}...` : value);
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'function') return 'a function';
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === 'object' && value !== null) return `an object (${value.constructor?.name ?? 'null prototype'})`;
  return String(value);
}

export function expected(name: string, what: string, value: unknown, where: string): SwiftKVError {
  return new SwiftKVError(
    'ERR_INVALID_ARGUMENT',
    `Expected ${name} to be ${what} but received ${describe(value)} (${where})`,
  );
}

/** Refuses anything but a plain options object whose keys are all known. */
export function checkOptions(value: unknown, known: readonly string[], where: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw expected('options', 'an object', value, where);
  }
  for (const key of Object.keys(value)) {
    if (!known.includes(key)) {
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        `Expected options to be among ${known.join(', ')} but received ${describe(key)} (${where})`,
      );
    }
  }
  return value as Record<string, unknown>;
}

export function checkInteger(name: string, value: unknown, where: string, min: number, max = Number.MAX_SAFE_INTEGER) {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max) return value;
  const range = max === Number.MAX_SAFE_INTEGER ? `>= ${min}` : `from ${min} to ${max}`;
  throw expected(name, `an integer ${range}`, value, where);
}

/** A finite number in [min, max], or in (min, max] with `aboveMin`. */
export function checkNumber(
  name: string,
  value: unknown,
  where: string,
  range: { min: number; max?: number; aboveMin?: boolean },
): number {
  const { min, max = Number.POSITIVE_INFINITY, aboveMin = false } = range;
  const inside = typeof value === 'number' && Number.isFinite(value) && value <= max;
  if (inside && (aboveMin ? value > min : value >= min)) return value;
  const lower = `${aboveMin ? '>' : '>='} ${min}`;
  throw expected(name, `a number ${lower}${max === Number.POSITIVE_INFINITY ? '' : ` and <= ${max}`}`, value, where);
}

/** Milliseconds that a timer can wait: at most 2^31 - 1. */
export function checkTimeout(name: string, value: unknown, where: string): number {
  return checkNumber(name, value, where, { min: 0, max: 2 ** 31 - 1 });
}

export function checkBoolean(name: string, value: unknown, where: string): boolean {
  if (typeof value === 'boolean') return value;
  throw expected(name, 'true or false', value, where);
}

export function checkString(name: string, value: unknown, where: string): string {
  if (typeof value === 'string') return value;
  throw expected(name, 'a string', value, where);
}

export function checkOneOf<T extends string>(name: string, value: unknown, where: string, choices: readonly T[]): T {
  if (choices.includes(value as T)) return value as T;
  throw expected(name, choices.map((c) => `'${c}'`).join(' or '), value, where);
}

export function checkFunction<T>(name: string, value: unknown, where: string): T {
  if (typeof value === 'function') return value as T;
  throw expected(name, 'a function', value, where);
}

/** Accepts any AbortSignal, of other realms and polyfills too. */
export function checkSignal(name: string, value: unknown, where: string): AbortSignal {
  const signal = value as AbortSignal;
  if (
    typeof value === 'object' &&
    value !== null &&
    typeof signal.aborted === 'boolean' &&
    typeof signal.addEventListener === 'function'
  ) {
    return signal;
  }
  throw expected(name, 'an AbortSignal', value, where);
}

/** A copy of the caller's ids, every one of them in the vocabulary. */
export function checkTokenIds(name: string, value: unknown, where: string, vocabSize: number): Int32Array {
  if (!Array.isArray(value) && (!ArrayBuffer.isView(value) || !('length' in value))) {
    throw expected(name, 'an array or typed array of token ids', value, where);
  }
  const ids = value as ArrayLike<unknown>;
  const copy = new Int32Array(ids.length);
  for (let i = 0; i < copy.length; i++) {
    const id = ids[i];
    const known = typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < vocabSize;
    if (!known) throw expected(`${name}[${i}]`, `an integer from 0 to ${vocabSize - 1}`, id, where);
    copy[i] = id;
  }
  return copy;
}
