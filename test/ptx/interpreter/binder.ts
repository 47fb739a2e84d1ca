// Operands to places in a warp's register file. Literals, addresses of variables and special registers have places of
// their own, filled once, so that every source is read alike.

import type { Ref } from './lanes.ts';
import { type Operand, PtxError, type Register, type Variable } from './syntax.ts';
import { isWide, type Type } from './types.ts';

/** A register: index of its first word, and words per lane. Of a predicate, the one word. */
export interface Slot {
  readonly at: number;
  readonly words: 1 | 2;
}

export interface PredicateRef {
  readonly at: number;
  readonly negated: boolean;
}

export interface AddressRef {
  readonly slot: Slot;
  readonly offset: number;
  /** When the address names a variable. */
  readonly variable: Variable | undefined;
}

export interface Constant {
  readonly slot: Slot;
  readonly bits: bigint;
}

/** The registers of one function, or of one inlined call of it. */
export type Frame = Map<Register, Slot>;

export class Binder {
  readonly constants: Constant[] = [];
  readonly specials = new Map<string, Slot>();
  frame: Frame = new Map();
  /** Addresses of variables in their own space. */
  readonly #addresses: ReadonlyMap<Variable, number>;
  readonly #constants = new Map<string, Slot>();
  #words = 0;
  line = 0;

  readonly #kernelParams: ReadonlySet<Variable>;

  constructor(addresses: ReadonlyMap<Variable, number>, kernelParams: ReadonlySet<Variable>) {
    this.#addresses = addresses;
    this.#kernelParams = kernelParams;
  }

  /** A param variable through which a call passes values; not one of the kernel. */
  isOfCall(variable: Variable): boolean {
    return variable.space === 'param' && !this.#kernelParams.has(variable);
  }

  /** Size of the register file, in words. */
  get words(): number {
    return this.#words;
  }

  slot(operand: Operand | undefined, words: 1 | 2 = 1): Slot {
    switch (operand?.kind) {
      case 'register': {
        let slot = this.frame.get(operand);
        if (slot === undefined) {
          slot = operand.type === 'pred' ? this.#predicate() : this.#allocate(isWide(operand.type) ? 2 : 1);
          this.frame.set(operand, slot);
        }
        return slot;
      }
      case 'sink':
        return this.#allocate(words);
      case 'integer':
        return this.#constant(operand.value, words);
      case 'float':
        return this.#constant(operand.bits, operand.width === 64 ? 2 : 1);
      case 'variable':
        return this.#constant(BigInt(this.addressOf(operand)), words);
      case 'address':
        if (operand.base.kind !== 'variable') break;
        return this.#constant(BigInt(this.addressOf(operand.base) + operand.offset), words);
      case 'special':
        return this.#special(operand.name);
    }
    throw this.error(`an operand of kind ${operand?.kind ?? 'nothing'} where a value was meant`);
  }

  /** The slot of a value of `type`; literals of 8 and 16 bits are cut to what a register would hold. */
  typed(operand: Operand | undefined, type: Type): Slot {
    if (operand?.kind === 'integer' && type.bits < 32) {
      return this.#constant(BigInt.asUintN(type.bits, operand.value), 1);
    }
    return this.slot(operand, type.bits === 64 ? 2 : 1);
  }

  /** An operand as arithmetic of `type` sees it. */
  ref(operand: Operand | undefined, type: Type): Ref {
    const wide = type.bits === 64;
    const slot = this.typed(operand, type);
    if ((slot.words === 2) !== wide) {
      // Literals may be read by any type that holds them; registers have to fit.
      if (operand?.kind !== 'special') throw this.error(`a register of ${slot.words * 32} bits as ${type.name}`);
      if (wide) throw this.error(`${operand.name} has 32 bits`);
      return { view: type.view, at: slot.at };
    }
    return { view: type.view, at: wide ? slot.at / 2 : slot.at };
  }

  predicate(operand: Operand | undefined): PredicateRef {
    if (operand?.kind === 'not') {
      const inner = this.predicate(operand.operand);
      return { at: inner.at, negated: !inner.negated };
    }
    if (operand?.kind === 'integer') {
      const slot = this.#constant(operand.value === 0n ? 0n : 0xffffffffn, 1);
      return { at: slot.at, negated: false };
    }
    if (operand?.kind === 'sink') return { at: this.#predicate().at, negated: false };
    if (operand?.kind !== 'register' || operand.type !== 'pred') throw this.error('expected a predicate');
    return { at: this.slot(operand).at, negated: false };
  }

  address(operand: Operand | undefined): AddressRef {
    if (operand?.kind !== 'address') throw this.error('expected an address');
    const { base, offset } = operand;
    if (base.kind === 'variable') return { slot: this.slot(base, 2), offset, variable: base };
    return { slot: this.slot(base, 2), offset, variable: undefined };
  }

  addressOf(variable: Variable): number {
    const address = this.#addresses.get(variable);
    if (address === undefined) throw this.error(`${variable.name} has no place`);
    return address;
  }

  /** Of a vector operand, its elements; else the operand itself. */
  elements(operand: Operand | undefined): readonly Operand[] {
    if (operand === undefined) throw this.error('an operand is missing');
    return operand.kind === 'vector' ? operand.elements : [operand];
  }

  integer(operand: Operand | undefined): number {
    if (operand?.kind !== 'integer') throw this.error('expected an integer literal');
    return Number(operand.value);
  }

  error(message: string): PtxError {
    return new PtxError(message, this.line);
  }

  /** Words that belong to one operation, such as the lanes' state of a loop. */
  #allocate(words: 1 | 2): Slot {
    const at = this.#words;
    this.#words += 32 * words;
    return { at, words };
  }

  /** Takes 32 words too: 64-bit slots must stay even, and predicates are few. */
  #predicate(): Slot {
    return this.#allocate(1);
  }

  #constant(value: bigint, words: 1 | 2): Slot {
    const bits = BigInt.asUintN(32 * words, value);
    const key = `${words}:${bits}`;
    let slot = this.#constants.get(key);
    if (slot === undefined) {
      slot = this.#allocate(words);
      this.#constants.set(key, slot);
      this.constants.push({ slot, bits });
    }
    return slot;
  }

  #special(name: string): Slot {
    let slot = this.specials.get(name);
    if (slot === undefined) {
      slot = this.#allocate(name === '%clock64' || name === '%globaltimer' ? 2 : 1);
      this.specials.set(name, slot);
    }
    return slot;
  }
}
