// ldmatrix and mma.sync by the fragment layouts of the PTX ISA. Lane l is g = l / 4, t = l % 4.

import { bf16ToNumber, e4m3ToNumber, f16ToNumber } from './formats.ts';
import type { Execute } from './lanes.ts';
import { nowhere, type Place } from './memory.ts';
import type { Handlers, Operation } from './operation.ts';
import { sumOfProducts } from './tensor-core.ts';

/** Lane 8 m + r gives the address of row r of matrix m; a row is 16 bytes. */
function ldmatrix(op: Operation): Execute {
  op.allow('sync', 'aligned', 'm8n8', 'x1', 'x2', 'x4', 'trans', 'shared', 'shared::cta');
  const { binder } = op;
  const outputs = binder.elements(op.operand(0)).map((e) => binder.slot(e).at);
  const count = Number(op.words.find((w) => /^x[124]$/.test(w))?.slice(1));
  if (outputs.length !== count || op.type.name !== 'b16') throw op.error('registers and form differ');
  const address = binder.address(op.operand(1));
  const isTransposed = op.has('trans');
  const place: Place = { region: nowhere, offset: 0 };
  const rows = new Uint16Array(8 * 8);
  return (warp) => {
    // Results may overwrite the addresses, so all matrices are read first.
    const read = outputs.map((_, m) => {
      for (let r = 0; r < 8; r++) {
        const lane = 8 * m + r;
        warp.locate('shared', warp.address(address, lane), 16, 16, lane, place);
        for (let c = 0; c < 8; c++) rows[8 * r + c] = place.region.u16[(place.offset >>> 1) + c]!;
      }
      return rows.slice();
    });
    read.forEach((matrix, m) => {
      for (let lane = 0; lane < 32; lane++) {
        const g = lane >>> 2;
        const c = 2 * (lane & 3);
        const [first, second] = isTransposed ? [8 * c + g, 8 * (c + 1) + g] : [8 * g + c, 8 * g + c + 1];
        warp.u32[outputs[m]! + lane] = matrix[first]! | (matrix[second]! << 16);
      }
    });
  };
}

interface ElementType {
  readonly bits: 8 | 16;
  readonly decode: (bits: number) => number;
}

const elementTypes: Record<string, ElementType> = {
  bf16: { bits: 16, decode: bf16ToNumber },
  f16: { bits: 16, decode: f16ToNumber },
  e4m3: { bits: 8, decode: e4m3ToNumber },
  s8: { bits: 8, decode: (x) => (x << 24) >> 24 },
  u8: { bits: 8, decode: (x) => x },
};

/** mma.sync.aligned.m16n8kK.row.col.{f32,s32}.A.B.{f32,s32} */
function mma(op: Operation): Execute {
  op.allow('sync', 'aligned', 'row', 'col', /^m16n8k(?:8|16|32)$/, 'e4m3', 's8', 'u8', 's32');
  const { binder } = op;
  const [sumType, aType, bType, cType] = op.words.slice(6);
  const a = elementTypes[aType ?? ''];
  const b = elementTypes[bType ?? ''];
  const isInteger = sumType === 's32';
  if (a === undefined || b === undefined || a.bits !== b.bits || sumType !== cType) throw op.error('not supported');
  if (!isInteger && sumType !== 'f32') throw op.error('sums of f32 and s32 only');
  const [dSlots, aSlots, bSlots, cSlots] = [0, 1, 2, 3].map((i) =>
    binder.elements(op.operand(i)).map((e) => binder.slot(e).at),
  ) as [number[], number[], number[], number[]];
  const perWord = 32 / a.bits;
  const k = Number(op.words[3]!.slice('m16n8k'.length));
  const fits = aSlots.length === k / (2 * perWord) && bSlots.length === k / (4 * perWord);
  if (!fits || dSlots.length !== 4 || cSlots.length !== 4) throw op.error('registers and shape differ');
  const elementMask = 2 ** a.bits - 1;
  const aRows = new Float64Array(16 * k);
  const bColumns = new Float64Array(8 * k);
  return (warp) => {
    const u = warp.u32;
    for (let lane = 0; lane < 32; lane++) {
      const g = lane >>> 2;
      const t = lane & 3;
      for (let j = 0; j < perWord; j++) {
        aSlots.forEach((at, i) => {
          const row = g + 8 * (i & 1);
          const column = perWord * t + 4 * perWord * (i >>> 1) + j;
          aRows[row * k + column] = a.decode((u[at + lane]! >>> (a.bits * j)) & elementMask);
        });
        bSlots.forEach((at, i) => {
          const row = perWord * t + 4 * perWord * i + j;
          bColumns[g * k + row] = b.decode((u[at + lane]! >>> (b.bits * j)) & elementMask);
        });
      }
    }
    const sums = isInteger ? warp.i32 : warp.f32;
    // Each lane's sums depend on its own c alone, so d may be the same registers.
    for (let lane = 0; lane < 32; lane++) {
      for (let i = 0; i < 4; i++) {
        const row = (lane >>> 2) + 8 * (i >>> 1);
        const column = 2 * (lane & 3) + (i & 1);
        const c = sums[cSlots[i]! + lane]!;
        sums[dSlots[i]! + lane] = sumOfProducts(c, aRows, row * k, bColumns, column * k, k, isInteger);
      }
    }
  };
}

export const matrixHandlers: Handlers = { ldmatrix, mma };
