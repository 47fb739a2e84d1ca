// PTX text to a module. The parser knows the grammar of declarations and instructions, and no opcode: which operands an
// instruction may have is for the one who executes it.

import { Scope } from './scope.ts';
import {
  type Guard,
  type Instruction,
  type Module,
  type Operand,
  PtxError,
  type PtxFunction,
  type Space,
  type TargetList,
  type Variable,
} from './syntax.ts';
import { type Token, tokenize } from './tokens.ts';

const spaces = new Set<string>(['.param', '.shared', '.local', '.global', '.const']);
const linkage = new Set<string>(['.visible', '.weak', '.extern', '.common']);
const element_bytes: Record<string, number> = { b8: 1, u8: 1, s8: 1, b16: 2, u16: 2, s16: 2, f16: 2 };

export function parseModule(text: string): Module {
  return new Parser(tokenize(text)).module();
}

function bytesOf(type: string): number {
  return element_bytes[type] ?? (type === 'b128' ? 16 : type.endsWith('64') ? 8 : 4);
}

/** An instruction as read, before names are known: labels may be used before they are declared. */
interface Pending {
  readonly token: Token;
  readonly scope: Scope;
  readonly guard: { name: string; negated: boolean } | undefined;
  readonly operands: Token[][];
}

class Parser {
  readonly #tokens: Token[];
  #at = 0;

  constructor(tokens: Token[]) {
    this.#tokens = tokens;
  }

  module(): Module {
    const scope = new Scope();
    const variables: Variable[] = [];
    const functions = new Map<string, PtxFunction>();
    let target = '';
    while (this.#at < this.#tokens.length) {
      const { text, line } = this.#peek();
      if (text === '.version' || text === '.address_size') {
        this.#at += 2;
        // The tokenizer reads 9.0 as a number and a name.
        if (this.#peek().text.startsWith('.') && /^\.\d/.test(this.#peek().text)) this.#at++;
      } else if (text === '.target') {
        this.#at++;
        target = this.#next().text;
        while (this.#take(',')) this.#at++;
      } else if (linkage.has(text)) {
        this.#at++;
      } else if (text === '.entry' || text === '.func') {
        this.#at++;
        const func = this.#function(text === '.entry', scope);
        if (func !== undefined) functions.set(func.name, func);
      } else if (spaces.has(text)) {
        const variable = this.#variable(scope, this.#tokens[this.#at - 1]?.text === '.extern');
        variables.push(variable);
        this.#expect(';');
      } else {
        throw new PtxError(`expected a declaration but found ${text}`, line);
      }
    }
    return { target, variables, functions };
  }

  /** Undefined for a declaration without a body. */
  #function(isKernel: boolean, outer: Scope): PtxFunction | undefined {
    const scope = new Scope(outer);
    const results = this.#peek().text === '(' ? this.#params(scope) : [];
    const name = this.#next().text;
    const params = this.#peek().text === '(' ? this.#params(scope) : [];
    outer.declare({ kind: 'function', name });
    // Launch bounds and the like.
    while (this.#peek().text !== '{' && this.#peek().text !== ';') this.#at++;
    if (this.#take(';')) return undefined;
    const variables: Variable[] = [];
    const pending: Pending[] = [];
    this.#expect('{');
    this.#body(scope, variables, pending);
    const instructions = pending.map((p) => this.#resolve(p));
    return { name, isKernel, params, results, variables, instructions };
  }

  #params(scope: Scope): Variable[] {
    const params: Variable[] = [];
    this.#expect('(');
    while (!this.#take(')')) {
      params.push(this.#variable(scope, false));
      this.#take(',');
    }
    return params;
  }

  /** .space [.align n] .type name[count] [= {bytes}] */
  #variable(scope: Scope, isExtern: boolean): Variable {
    const space = this.#next().text.slice(1) as Space;
    let align = 0;
    let type = '';
    while (this.#peek().text.startsWith('.')) {
      const word = this.#next().text;
      if (word === '.align') align = Number(this.#next().text);
      else if (word !== '.ptr' && !spaces.has(word)) type = word.slice(1);
    }
    const name = this.#next();
    let count = 1;
    let dynamic = false;
    while (this.#take('[')) {
      if (this.#take(']')) {
        dynamic = isExtern && space === 'shared';
        count = 0;
      } else {
        count *= Number(this.#next().text);
        this.#expect(']');
      }
    }
    const size = bytesOf(type);
    const data = this.#take('=') ? this.#initializer(size, count, name.line) : undefined;
    const variable: Variable = {
      kind: 'variable',
      name: name.text,
      space,
      align: align === 0 ? size : align,
      bytes: size * count,
      dynamic,
      ...(data === undefined ? {} : { data }),
    };
    scope.declare(variable);
    return variable;
  }

  #initializer(size: number, count: number, line: number): Uint8Array {
    const data = new Uint8Array(size * count);
    const values = this.#take('{') ? this.#until('}').filter((t) => t.text !== ',') : [this.#next()];
    values.forEach(({ text }, index) => {
      const operand = number(text, false);
      if (operand === undefined) throw new PtxError(`cannot initialize with ${text}`, line);
      let bits = operand.kind === 'float' ? operand.bits : BigInt.asUintN(64, operand.value);
      for (let byte = 0; byte < size; byte++, bits >>= 8n) data[index * size + byte] = Number(bits & 0xffn);
    });
    return data;
  }

  #body(scope: Scope, variables: Variable[], pending: Pending[]): void {
    while (!this.#take('}')) {
      const { text, line } = this.#peek();
      if (text === '{') {
        this.#at++;
        this.#body(new Scope(scope), variables, pending);
      } else if (text === '.reg') {
        this.#registers(scope);
      } else if (spaces.has(text)) {
        variables.push(this.#variable(scope, false));
        this.#expect(';');
      } else if (text === '.pragma' || text === '.loc') {
        this.#until(';');
      } else if (this.#tokens[this.#at + 1]?.text === ':') {
        this.#at += 2;
        if (this.#peek().text === '.branchtargets') this.#targets(text, scope);
        else scope.label(text).at = pending.length;
      } else if (text.startsWith('.')) {
        throw new PtxError(`unknown directive ${text}`, line);
      } else {
        pending.push(this.#instruction(scope));
      }
    }
  }

  #registers(scope: Scope): void {
    this.#at++;
    const type = this.#next().text.slice(1);
    do {
      const name = this.#next().text;
      if (this.#take('<')) {
        scope.declareRange(name, Number(this.#next().text), type);
        this.#expect('>');
      } else {
        scope.declare({ kind: 'register', name, type });
      }
    } while (this.#take(','));
    this.#expect(';');
  }

  #targets(name: string, scope: Scope): void {
    this.#at++;
    const labels = this.#until(';').filter((t) => t.text !== ',');
    const targets: TargetList = { kind: 'targets', name, labels: labels.map((t) => scope.label(t.text)) };
    scope.declare(targets);
  }

  #instruction(scope: Scope): Pending {
    let guard: Pending['guard'];
    if (this.#take('@')) {
      const negated = this.#take('!');
      guard = { name: this.#next().text, negated };
    }
    const token = this.#next();
    const operands: Token[][] = [];
    let current: Token[] = [];
    let depth = 0;
    while (true) {
      const next = this.#next();
      if (next.text === ';') break;
      if ('{[('.includes(next.text)) depth++;
      if ('}])'.includes(next.text)) depth--;
      if (next.text === ',' && depth === 0) {
        operands.push(current);
        current = [];
      } else {
        current.push(next);
      }
    }
    if (current.length > 0) operands.push(current);
    return { token, scope, guard, operands };
  }

  #resolve({ token, scope, guard, operands }: Pending): Instruction {
    const words = token.text.split('.');
    const isBranch = words[0] === 'bra';
    const resolved: Guard | undefined = guard && {
      predicate: scope.resolve(guard.name, token.line),
      negated: guard.negated,
    };
    const read = operands.map((tokens) => {
      const reader = new OperandReader(tokens, scope, token.line);
      return isBranch && tokens.length === 1 ? reader.label() : reader.operand();
    });
    return { line: token.line, guard: resolved, words, operands: read };
  }

  #peek(): Token {
    const token = this.#tokens[this.#at];
    if (token === undefined) throw new PtxError('the text ends in the middle of a declaration');
    return token;
  }

  #next(): Token {
    const token = this.#peek();
    this.#at++;
    return token;
  }

  #take(text: string): boolean {
    if (this.#peek().text !== text) return false;
    this.#at++;
    return true;
  }

  #expect(text: string): void {
    const token = this.#next();
    if (token.text !== text) throw new PtxError(`expected ${text} but found ${token.text}`, token.line);
  }

  #until(end: string): Token[] {
    const tokens: Token[] = [];
    for (let token = this.#next(); token.text !== end; token = this.#next()) tokens.push(token);
    return tokens;
  }
}

class OperandReader {
  readonly #tokens: Token[];
  readonly #scope: Scope;
  readonly #line: number;
  #at = 0;

  constructor(tokens: Token[], scope: Scope, line: number) {
    this.#tokens = tokens;
    this.#scope = scope;
    this.#line = line;
  }

  label(): Operand {
    return this.#scope.resolve(this.#tokens[0]!.text, this.#line);
  }

  operand(): Operand {
    const first = this.#single();
    if (this.#take('|')) return { kind: 'pair', first, second: this.#single() };
    if (this.#at < this.#tokens.length) {
      throw new PtxError(`unexpected ${this.#tokens[this.#at]!.text} in an operand`, this.#line);
    }
    return first;
  }

  #single(): Operand {
    const text = this.#next();
    if (text === '!') return { kind: 'not', operand: this.#single() };
    if (text === '{') return { kind: 'vector', elements: this.#list('}') };
    if (text === '(') return { kind: 'list', elements: this.#list(')') };
    if (text === '[') return this.#address();
    if (text === '_') return { kind: 'sink' };
    const negative = text === '-';
    const literal = number(negative ? this.#next() : text, negative);
    if (literal !== undefined) return literal;
    const base = this.#scope.resolve(text, this.#line);
    // `mov.u64 %rd1, variable+8`
    if (this.#tokens[this.#at]?.text === '+') return { kind: 'address', base, offset: this.#offset() };
    return base;
  }

  #address(): Operand {
    const base = this.#single();
    const address: Operand = base.kind === 'address' ? base : { kind: 'address', base, offset: this.#offset() };
    if (!this.#take(']')) throw new PtxError('an address of this form is not known', this.#line);
    return address;
  }

  #offset(): number {
    if (!this.#take('+')) return 0;
    const sign = this.#take('-') ? -1 : 1;
    return sign * Number(this.#next());
  }

  #list(end: string): Operand[] {
    const elements: Operand[] = [];
    while (!this.#take(end)) {
      elements.push(this.#single());
      this.#take(',');
    }
    return elements;
  }

  #next(): string {
    const token = this.#tokens[this.#at++];
    if (token === undefined) throw new PtxError('an operand ends early', this.#line);
    return token.text;
  }

  #take(text: string): boolean {
    if (this.#tokens[this.#at]?.text !== text) return false;
    this.#at++;
    return true;
  }
}

function number(text: string, negative: boolean) {
  if (/^0[fF]/.test(text)) return { kind: 'float', bits: BigInt(`0x${text.slice(2)}`), width: 32 } as const;
  if (/^0[dD]/.test(text)) return { kind: 'float', bits: BigInt(`0x${text.slice(2)}`), width: 64 } as const;
  if (!/^\d/.test(text)) return undefined;
  const value = BigInt(text.replace(/U$/, ''));
  return { kind: 'integer', value: negative ? -value : value } as const;
}
