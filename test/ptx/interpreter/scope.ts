// The nested scopes of a function's body: braces of inline assembly declare registers and labels of their own.

import { type Label, type Named, PtxError, type Special } from './syntax.ts';

const specials =
  /^%(?:(?:tid|ntid|ctaid|nctaid)\.[xyz]|laneid|warpid|nwarpid|lanemask_(?:eq|le|lt|ge|gt)|clock|clock64|smid|globaltimer|dynamic_smem_size|total_smem_size)$/;

/** A range such as `%r<167>` declares %r0 to %r166. */
interface Range {
  readonly count: number;
  readonly type: string;
}

export class Scope {
  readonly #parent: Scope | undefined;
  readonly #names = new Map<string, Named>();
  readonly #ranges = new Map<string, Range>();

  constructor(parent?: Scope) {
    this.#parent = parent;
  }

  declare(named: Named): void {
    this.#names.set(named.name, named);
  }

  declareRange(prefix: string, count: number, type: string): void {
    this.#ranges.set(prefix, { count, type });
  }

  label(name: string): Label {
    const known = this.#names.get(name);
    if (known?.kind === 'label') return known;
    const label: Label = { kind: 'label', name, at: -1 };
    this.declare(label);
    return label;
  }

  find(name: string): Named | undefined {
    const own = this.#names.get(name) ?? this.#fromRange(name);
    if (own !== undefined) return own;
    if (this.#parent !== undefined) return this.#parent.find(name);
    if (!specials.test(name)) return undefined;
    const special: Special = { kind: 'special', name };
    this.declare(special);
    return special;
  }

  resolve(name: string, line: number): Named {
    const named = this.find(name);
    if (named === undefined) throw new PtxError(`${name} is not declared`, line);
    return named;
  }

  #fromRange(name: string): Named | undefined {
    const digits = /\d+$/.exec(name)?.[0];
    if (digits === undefined) return undefined;
    const range = this.#ranges.get(name.slice(0, -digits.length));
    if (range === undefined || Number(digits) >= range.count) return undefined;
    const register: Named = { kind: 'register', name, type: range.type };
    this.declare(register);
    return register;
  }
}
