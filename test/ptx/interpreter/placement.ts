// Where a kernel's variables are, each in its own space.

import type { Module, PtxFunction, Variable } from './syntax.ts';
import { PtxError } from './syntax.ts';

export interface Placement {
  readonly addresses: Map<Variable, number>;
  readonly sharedBytes: number;
  readonly localBytes: number;
  readonly paramBytes: number;
}

export function placeVariables(
  module: Module,
  kernel: PtxFunction,
  dynamicSharedBytes: number,
  globals: ReadonlyMap<Variable, number>,
): Placement {
  const addresses = new Map(globals);
  const next = { shared: 0, local: 0, param: 0 };
  const place = (variable: Variable, space: keyof typeof next) => {
    next[space] = Math.ceil(next[space] / variable.align) * variable.align;
    addresses.set(variable, next[space]);
    next[space] += variable.bytes;
  };
  for (const param of kernel.params) place(param, 'param');
  const functions = reachable(module, kernel);
  for (const func of functions) {
    for (const variable of func.variables) place(variable, variable.space === 'shared' ? 'shared' : 'local');
    if (func !== kernel) for (const variable of [...func.params, ...func.results]) place(variable, 'local');
  }
  // All names of dynamic shared memory are the same bytes, after the static ones.
  const dynamic: Variable[] = [];
  for (const variable of module.variables) {
    if (variable.space !== 'shared') continue;
    if (variable.dynamic) dynamic.push(variable);
    else place(variable, 'shared');
  }
  const align = Math.max(16, ...dynamic.map((v) => v.align));
  if (dynamic.length > 0) next.shared = Math.ceil(next.shared / align) * align;
  for (const variable of dynamic) addresses.set(variable, next.shared);
  return {
    addresses,
    sharedBytes: next.shared + dynamicSharedBytes,
    localBytes: next.local,
    paramBytes: next.param,
  };
}

/** The kernel and every function that it calls, directly or not. */
function reachable(module: Module, kernel: PtxFunction): Set<PtxFunction> {
  const found = new Set([kernel]);
  for (const func of found) {
    for (const { words, operands, line } of func.instructions) {
      if (words[0] !== 'call') continue;
      const name = operands.find((o) => o.kind === 'function');
      const callee = name?.kind === 'function' ? module.functions.get(name.name) : undefined;
      if (callee === undefined) throw new PtxError('a call of an unknown function', line);
      found.add(callee);
    }
  }
  return found;
}
