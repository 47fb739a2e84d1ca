// Typed reads of config.json's fields. A refusal names the file, the field, what was expected and what was there.

import { isJsonObject, type JsonObject, quote } from '../checkpoint/json.ts';
import { SwiftKVError } from '../errors.ts';

/** Sizes are int32 in native code. */
const maxInteger = 2 ** 31 - 1;

export interface NumberRange {
  min: number;
  max?: number;
  /** min itself is not allowed. */
  above?: boolean;
}

/**
 * Reads one JSON object. A missing field takes the default given; where no default is given it is refused. null counts
 * as missing only for fields read with `optional...` methods.
 */
export class ConfigReader {
  readonly json: JsonObject;
  readonly file: string;
  /** Put before field names: `rope_scaling.` inside that object. */
  readonly prefix: string;

  constructor(json: JsonObject, file: string, prefix = '') {
    this.json = json;
    this.file = file;
    this.prefix = prefix;
  }

  has(field: string): boolean {
    return this.json[field] !== undefined && this.json[field] !== null;
  }

  integer(field: string, fallback?: number, range: NumberRange = { min: 1 }): number {
    const value = this.#get(field, fallback);
    const max = range.max ?? maxInteger;
    if (!Number.isInteger(value) || (value as number) < range.min || (value as number) > max) {
      return this.invalid(field, `an integer from ${range.min} to ${max}`);
    }
    return value as number;
  }

  /** null for a missing or null field. */
  optionalInteger(field: string, range: NumberRange = { min: 1 }): number | null {
    return this.has(field) ? this.integer(field, undefined, range) : null;
  }

  number(field: string, fallback?: number, range: NumberRange = { min: 0, above: true }): number {
    const value = this.#get(field, fallback);
    const max = range.max ?? Number.MAX_VALUE;
    const fits = typeof value === 'number' && (range.above ? value > range.min : value >= range.min) && value <= max;
    if (!fits) {
      const upper = range.max === undefined ? '' : ` and at most ${range.max}`;
      return this.invalid(field, `a number ${range.above ? 'above' : 'of at least'} ${range.min}${upper}`);
    }
    return value;
  }

  boolean(field: string, fallback: boolean): boolean {
    const value = this.#get(field, fallback);
    return typeof value === 'boolean' ? value : this.invalid(field, 'true or false');
  }

  string(field: string, fallback?: string): string {
    const value = this.#get(field, fallback);
    return typeof value === 'string' ? value : this.invalid(field, 'a string');
  }

  /** A reader of the object in `field`, or null when it is missing or null. */
  object(field: string): ConfigReader | null {
    if (!this.has(field)) return null;
    const value = this.json[field];
    if (!isJsonObject(value)) return this.invalid(field, 'an object or null');
    return new ConfigReader(value, this.file, `${this.prefix}${field}.`);
  }

  /** Token ids given as one integer or a list; null for a missing field, [] for null. */
  tokenIds(field: string): number[] | null {
    const value = this.json[field];
    if (value === undefined) return null;
    if (value === null) return [];
    const ids = Array.isArray(value) ? value : [value];
    if (!ids.every((id) => Number.isInteger(id) && id >= 0 && id <= maxInteger)) {
      return this.invalid(field, 'a token id or a list of token ids');
    }
    return ids;
  }

  /** The value contradicts the format, another field or reason. */
  invalid(field: string, expected: string): never {
    throw new SwiftKVError('ERR_MODEL_INVALID', `${this.#where(field)}: expected ${expected} ${this.#received(field)}`);
  }

  /** The value is fine, but swiftkv does not have what it asks for. */
  unsupported(field: string, why: string): never {
    throw new SwiftKVError('ERR_MODEL_UNSUPPORTED', `${this.#where(field)} is ${quote(this.json[field])}: ${why}`);
  }

  #where(field: string): string {
    return `${this.file}: ${this.prefix}${field}`;
  }

  #received(field: string): string {
    const value = this.json[field];
    return value === undefined ? 'but it is missing' : `but received ${quote(value)}`;
  }

  #get(field: string, fallback: unknown): unknown {
    const value = this.json[field];
    return value === undefined && fallback !== undefined ? fallback : value;
  }
}
