// Structured damage to JSON and to files: what is left is mostly right, so that readers get far into it.

import fc from 'fast-check';

/** One change. `at` picks its place among all places there are; changes are data, so that failures shrink. */
export interface Mutation {
  kind: 'replace' | 'delete' | 'rename' | 'swap' | 'nest' | 'duplicate' | 'truncate' | 'flip' | 'length';
  at: number;
  value: unknown;
}

const hostileNumbers = [0, -1, 1, 2, 0.5, 1e308, -1e308, 5e-324, 255, 65536, 2 ** 31 - 1, 2 ** 31, 2 ** 53, 2 ** 63];
const hostileTexts = ['', '..', '../..', '/etc/passwd', 'a\0b', '__proto__', 'constructor', '\ud800', 'F32', 'llama'];

const value: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(...hostileNumbers),
  fc.constantFrom<unknown>(...hostileTexts),
  fc.constantFrom<unknown>(null, true, false, [], {}, [[]], [-1], [2 ** 40, 2 ** 40], { a: {} }),
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.string({ maxLength: 8 }),
  fc.array(fc.integer({ min: -2, max: 100 }), { maxLength: 4 }),
);

const kinds = ['replace', 'delete', 'rename', 'swap', 'nest', 'duplicate', 'truncate', 'flip', 'length'] as const;

export const mutations: fc.Arbitrary<Mutation[]> = fc.array(
  fc.record({
    // Mostly values: they lead furthest.
    kind: fc.oneof({ weight: 2, arbitrary: fc.constant('replace' as const) }, fc.constantFrom(...kinds)),
    at: fc.nat(2 ** 30),
    value,
  }),
  { minLength: 1, maxLength: 5 },
);

interface Place {
  parent: Record<string, unknown> | unknown[];
  key: string;
}

function placesOf(json: unknown, places: Place[] = []): Place[] {
  if (typeof json !== 'object' || json === null) return places;
  for (const key of Object.keys(json)) {
    places.push({ parent: json as Place['parent'], key });
    placesOf((json as Record<string, unknown>)[key], places);
  }
  return places;
}

function set({ parent, key }: Place, item: unknown): void {
  // Not by assignment: `__proto__` must become a key like any other.
  Object.defineProperty(parent, key, { value: item, enumerable: true, configurable: true, writable: true });
}

/** `json` with the changes that speak of values, as text with the changes that speak of text. */
export function mutateJson(json: unknown, changes: readonly Mutation[]): Buffer {
  const root = { root: structuredClone(json) };
  const duplicates: unknown[] = [];
  for (const { kind, at, value: item } of changes) {
    const places = placesOf(root.root);
    const place = places[at % Math.max(1, places.length)];
    if (place === undefined) break;
    const old = (place.parent as Record<string, unknown>)[place.key];
    if (kind === 'replace') set(place, structuredClone(item));
    else if (kind === 'delete') delete (place.parent as Record<string, unknown>)[place.key];
    else if (kind === 'rename' && !Array.isArray(place.parent))
      set({ parent: place.parent, key: String(item).slice(0, 20) }, old);
    else if (kind === 'nest') set(place, [old]);
    else if (kind === 'duplicate') duplicates.push(place.key);
    else if (kind === 'swap') {
      const other = places[(at >>> 8) % places.length]!;
      const there = (other.parent as Record<string, unknown>)[other.key];
      set(place, structuredClone(there));
    }
  }
  let text = JSON.stringify(root.root) ?? 'null';
  for (const key of duplicates) text = text.replace('{', `{${JSON.stringify(key)}:1,`);
  return mutateBytes(Buffer.from(text), changes);
}

export function mutateBytes(bytes: Buffer, changes: readonly Mutation[]): Buffer {
  let result = bytes;
  for (const { kind, at } of changes) {
    if (result.length === 0) break;
    if (kind === 'truncate') result = result.subarray(0, at % result.length);
    if (kind === 'flip') {
      result = Buffer.from(result);
      const byte = (at >>> 3) % result.length;
      result.writeUInt8(result.readUInt8(byte) ^ (1 << (at & 7)), byte);
    }
  }
  return result;
}

const lengths = [0n, 1n, 7n, 2n ** 31n, 2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n];

/** The length field of a safetensors header of `length` bytes. */
export function mutateLength(length: number, changes: readonly Mutation[]): bigint {
  const change = changes.find(({ kind }) => kind === 'length');
  if (change === undefined) return BigInt(length);
  return lengths[change.at % (lengths.length + 1)] ?? BigInt(length + 1);
}
