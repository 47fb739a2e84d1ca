// ld and st of every space and width, atomic operations, and conversions of addresses.

import { maxFloat, minFloat } from './float-math.ts';
import { copyWords, type Execute } from './lanes.ts';
import { local_window, nowhere, type Place, param_window, type Region, shared_window } from './memory.ts';
import type { Handlers, Operation } from './operation.ts';
import type { Operand } from './syntax.ts';
import type { Warp } from './warp.ts';

const cacheWords = [
  'weak',
  'volatile',
  'relaxed',
  'acquire',
  'release',
  'acq_rel',
  'cta',
  'gpu',
  'sys',
  'nc',
  'ca',
  'cg',
  'cs',
  'cv',
  'lu',
  'wb',
  'wt',
  'v2',
  'v4',
  'v8',
  /^L1::/,
  /^L2::/,
];
const space = /^(?:shared(?:::cta)?|global|local|const|param(?:::entry|::func)?)$/;

/** The memory that an access names. The param variables of calls are a thread's own, like local memory. */
function spaceOf(op: Operation, address: Operand | undefined): string {
  const word = op.words.find((w) => space.test(w))?.replace(/::.*/, '') ?? 'generic';
  if (word !== 'param') return word;
  const variable = address?.kind === 'address' && address.base.kind === 'variable' ? address.base : undefined;
  return variable !== undefined && op.binder.isOfCall(variable) ? 'local' : 'param';
}

interface Access {
  readonly space: string;
  readonly elements: readonly Operand[];
  readonly address: ReturnType<Operation['binder']['address']>;
  readonly bytes: number;
  readonly size: number;
}

function access(op: Operation, addressed: number, values: number): Access {
  op.allow(space, ...cacheWords);
  const elements = op.binder.elements(op.operand(values));
  const bytes = op.type.bits / 8;
  return {
    space: spaceOf(op, op.operand(addressed)),
    elements,
    address: op.binder.address(op.operand(addressed)),
    bytes,
    size: bytes * elements.length,
  };
}

function load(region: Region, offset: number, bytes: number, isSigned: boolean): number {
  if (bytes >= 4) return region.u32[offset >>> 2]!;
  if (bytes === 2) return isSigned ? (region.u16[offset >>> 1]! << 16) >> 16 : region.u16[offset >>> 1]!;
  return isSigned ? (region.u8[offset]! << 24) >> 24 : region.u8[offset]!;
}

function ld(op: Operation): Execute {
  const { space: where, elements, address, bytes, size } = access(op, 1, 0);
  const isSigned = op.type.kind === 'signed';
  const slots = elements.map((e) => op.binder.slot(e, bytes === 8 ? 2 : 1));
  for (const slot of slots) if (bytes === 8 && slot.words !== 2) throw op.error('a register of 32 bits');
  // A 16-bit register takes a signed byte extended to 16 bits.
  const cut = elements.map((e) => (e.kind === 'register' && e.type.endsWith('16') ? 0xffff : 0xffffffff));
  const place: Place = { region: nowhere, offset: 0 };
  return (warp, mask) => {
    const u = warp.u32;
    for (let lane = 0; lane < 32; lane++) {
      if (((mask >>> lane) & 1) === 0) continue;
      warp.locate(where, warp.address(address, lane), size, size, lane, place);
      const { region, offset } = place;
      for (let e = 0; e < slots.length; e++) {
        const { at, words } = slots[e]!;
        const low = load(region, offset + e * bytes, bytes, isSigned);
        if (words === 1) {
          u[at + lane] = low & cut[e]!;
        } else {
          u[at + 2 * lane] = low;
          u[at + 2 * lane + 1] = bytes === 8 ? region.u32[(offset >>> 2) + 2 * e + 1]! : isSigned && low < 0 ? -1 : 0;
        }
      }
    }
  };
}

function st(op: Operation): Execute {
  const { space: where, elements, address, bytes, size } = access(op, 0, 1);
  const slots = elements.map((e) => op.binder.slot(e, bytes === 8 ? 2 : 1));
  for (const slot of slots) if (bytes === 8 && slot.words !== 2) throw op.error('a register of 32 bits');
  const place: Place = { region: nowhere, offset: 0 };
  return (warp, mask) => {
    const u = warp.u32;
    for (let lane = 0; lane < 32; lane++) {
      if (((mask >>> lane) & 1) === 0) continue;
      warp.locate(where, warp.address(address, lane), size, size, lane, place);
      const { region, offset } = place;
      for (let e = 0; e < slots.length; e++) {
        const { at, words } = slots[e]!;
        const value = u[at + words * lane]!;
        const to = offset + e * bytes;
        if (bytes === 1) region.u8[to] = value;
        else if (bytes === 2) region.u16[to >>> 1] = value;
        else region.u32[to >>> 2] = value;
        if (bytes === 8) region.u32[(to >>> 2) + 1] = u[at + words * lane + 1]!;
      }
    }
  };
}

type Update = (old: number, value: number, third: number) => number;

const f32 = new Float32Array(1);
const bits = new Uint32Array(f32.buffer);

function floats(f: (x: number, y: number) => number): Update {
  return (old, value) => {
    bits[0] = old;
    const x = f32[0]!;
    bits[0] = value;
    f32[0] = f(x, f32[0]!);
    return bits[0];
  };
}

const unsignedUpdates: Record<string, Update> = {
  add: (old, x) => old + x,
  min: (old, x) => Math.min(old, x),
  max: (old, x) => Math.max(old, x),
  and: (old, x) => old & x,
  or: (old, x) => old | x,
  xor: (old, x) => old ^ x,
  exch: (_, x) => x,
  cas: (old, compare, x) => (old === compare ? x : old),
  inc: (old, limit) => (old >= limit ? 0 : old + 1),
  dec: (old, limit) => (old === 0 || old > limit ? limit : old - 1),
};

function updateOf(op: Operation): Update {
  const name = op.words.slice(1).find((w) => w in unsignedUpdates) ?? '';
  const update = unsignedUpdates[name];
  if (update === undefined || op.type.bits !== 32) throw op.error('not supported');
  if (op.type.kind === 'float') {
    if (name === 'add') return floats((x, y) => x + y);
    if (name === 'min') return floats(minFloat);
    if (name === 'max') return floats(maxFloat);
    throw op.error('not supported');
  }
  if (op.type.kind === 'signed' && (name === 'min' || name === 'max')) return (old, x) => update(old | 0, x | 0, 0);
  return update;
}

/** Lanes one after the other: an order that the hardware may take too. */
function atomic(op: Operation): Execute {
  op.allow(space, ...cacheWords, ...Object.keys(unsignedUpdates));
  const returns = op.words[0] === 'atom';
  const first = returns ? 1 : 0;
  const update = updateOf(op);
  const { binder } = op;
  const d = returns ? binder.slot(op.operand(0)).at : undefined;
  const address = binder.address(op.operand(first));
  const where = spaceOf(op, op.operand(first));
  const a = binder.slot(op.operand(first + 1)).at;
  const b = op.operand(first + 2) === undefined ? a : binder.slot(op.operand(first + 2)).at;
  const place: Place = { region: nowhere, offset: 0 };
  return (warp, mask) => {
    for (let lane = 0; lane < 32; lane++) {
      if (((mask >>> lane) & 1) === 0) continue;
      warp.locate(where, warp.address(address, lane), 4, 4, lane, place);
      const { region, offset } = place;
      const old = region.u32[offset >>> 2]!;
      region.u32[offset >>> 2] = update(old, warp.u32[a + lane]!, warp.u32[b + lane]!);
      if (d !== undefined) warp.u32[d + lane] = old;
    }
  };
}

const windows: Record<string, number> = {
  shared: shared_window,
  local: local_window,
  param: param_window,
  global: 0,
  const: 0,
};

/** Between generic addresses and those of a space, which differ by the start of its window. */
function cvta(op: Operation): Execute {
  op.allow('to', space);
  const window = windows[op.words.find((w) => space.test(w))?.replace(/::.*/, '') ?? ''];
  if (window === undefined) throw op.error('not supported');
  const d = op.binder.slot(op.operand(0), 2).at;
  const s = op.binder.slot(op.operand(1), 2).at;
  if (window === 0) return copyWords(d, s, 2);
  const step = (op.has('to') ? -window : window) / 2 ** 32;
  return (warp: Warp, mask: number) => {
    for (let lane = 0; lane < 32; lane++) {
      if (((mask >>> lane) & 1) === 0) continue;
      warp.u32[d + 2 * lane] = warp.u32[s + 2 * lane]!;
      warp.u32[d + 2 * lane + 1] = warp.u32[s + 2 * lane + 1]! + step;
    }
  };
}

const nothing = (): Execute => () => {};

export const loadStoreHandlers: Handlers = {
  ld,
  ldu: ld,
  st,
  atom: atomic,
  red: atomic,
  cvta,
  prefetch: nothing,
  prefetchu: nothing,
};
