// Scalar types of PTX and how a register holds them: 32 lanes of one word, or of two words for 64-bit types. Types of 8
// and 16 bits lie zero-extended in a word. A predicate is one word, a bit per lane.

import { PtxError, type TypeName } from './syntax.ts';

/** Names of the views of a warp's registers (warp.ts). */
export type NumberView = 'u32' | 'i32' | 'f32' | 'f64';
export type BigView = 'u64' | 'i64';
export type ViewName = NumberView | BigView;

export interface Type {
  readonly name: TypeName;
  readonly bits: number;
  readonly kind: 'unsigned' | 'signed' | 'float' | 'predicate';
  /** How arithmetic of the type sees a register; 8- and 16-bit floats are bits there. */
  readonly view: ViewName;
}

const kinds: Record<string, Type['kind']> = { u: 'unsigned', b: 'unsigned', s: 'signed', f: 'float' };

function describe(name: TypeName): Type | undefined {
  if (name === 'pred') return { name, bits: 1, kind: 'predicate', view: 'u32' };
  if (name === 'bf16') return { name, bits: 16, kind: 'float', view: 'u32' };
  if (/^(?:f16x2|bf16x2)$/.test(name)) return { name, bits: 32, kind: 'float', view: 'u32' };
  if (/^(?:e4m3x2|e5m2x2)$/.test(name)) return { name, bits: 16, kind: 'float', view: 'u32' };
  const match = /^([ubsf])(8|16|32|64)$/.exec(name);
  if (match === null) return undefined;
  const kind = kinds[match[1]!]!;
  const bits = Number(match[2]);
  if (kind === 'float') return { name, bits, kind, view: bits === 64 ? 'f64' : bits === 32 ? 'f32' : 'u32' };
  if (bits === 64) return { name, bits, kind, view: kind === 'signed' ? 'i64' : 'u64' };
  return { name, bits, kind, view: kind === 'signed' ? 'i32' : 'u32' };
}

const known = new Map<TypeName, Type | undefined>();

export function findType(name: TypeName): Type | undefined {
  if (!known.has(name)) known.set(name, describe(name));
  return known.get(name);
}

export function typeOf(name: TypeName | undefined, line?: number): Type {
  const type = name === undefined ? undefined : findType(name);
  if (type === undefined) throw new PtxError(`unknown type ${name}`, line);
  return type;
}

export function isWide(name: TypeName): boolean {
  return name.endsWith('64');
}
