// Arithmetic with the carry flag, of 32 bits: long multiplications in the mathematics library use it.

import type { Execute } from './lanes.ts';
import type { Operation } from './operation.ts';

export function usesCarry(words: readonly string[]): boolean {
  return words.includes('cc') || /^(?:addc|subc|madc)$/.test(words[0]!);
}

/** d = a + b + carry and the like; the flag is one bit per lane. */
export function carryChain(op: Operation): Execute {
  const { words, type, binder } = op;
  op.allow('lo', 'hi', 'cc');
  if (type.bits !== 32) throw op.error('only 32 bits are supported');
  const name = words[0]!;
  const takes = name.endsWith('c');
  const sets = op.has('cc');
  const isHigh = op.has('hi');
  const [d, a, b] = [0, 1, 2].map((i) => binder.typed(op.operand(i), type).at) as [number, number, number];
  const c = name.startsWith('mad') ? binder.typed(op.operand(3), type).at : undefined;
  if (c !== undefined && type.kind === 'signed' && isHigh) throw op.error('signed high products are not supported');
  return (warp, mask) => {
    const u = warp.u32;
    for (let lane = 0; lane < 32; lane++) {
      if (((mask >>> lane) & 1) === 0) continue;
      const [x, y] = [u[a + lane]!, u[b + lane]!];
      let result: number;
      if (c !== undefined) {
        const product = BigInt(x) * BigInt(y);
        result = Number((isHigh ? product >> 32n : product) & 0xffffffffn) + u[c + lane]!;
      } else {
        result = name.startsWith('sub') ? x - y : x + y;
      }
      // A borrow is a carry that is subtracted.
      if (takes) result += (name.startsWith('sub') ? -1 : 1) * ((warp.carry >>> lane) & 1);
      u[d + lane] = result;
      if (!sets) continue;
      const carry = result > 0xffffffff || result < 0 ? 1 : 0;
      warp.carry = (warp.carry & ~(1 << lane)) | (carry << lane);
    }
  };
}
