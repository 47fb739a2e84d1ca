// Which file executes an opcode.

import { asyncCopyHandlers } from './async-copy.ts';
import { bitHandlers } from './bits.ts';
import { collectiveHandlers } from './collective.ts';
import { compareHandlers } from './compare.ts';
import { convertHandlers } from './convert.ts';
import { floatHandlers } from './float.ts';
import { integerHandlers } from './integer.ts';
import { loadStoreHandlers } from './load-store.ts';
import { matrixHandlers } from './matrix.ts';
import { mbarrierHandlers } from './mbarrier.ts';
import type { Handler, Handlers, Operation } from './operation.ts';
import { wgmmaHandlers } from './wgmma.ts';

const handlers: Handlers = {
  ...integerHandlers,
  ...bitHandlers,
  ...compareHandlers,
  ...convertHandlers,
  ...loadStoreHandlers,
  ...asyncCopyHandlers,
  ...collectiveHandlers,
  ...matrixHandlers,
  ...mbarrierHandlers,
  ...wgmmaHandlers,
};

/** Arithmetic of the same name has another file for floats. */
export function handlerOf(op: Operation): Handler {
  const name = op.words[0]!;
  const isFloat = op.ownType?.kind === 'float';
  const handler = (isFloat ? floatHandlers[name] : undefined) ?? handlers[name];
  if (handler === undefined) throw op.error('unknown instruction');
  return handler;
}
