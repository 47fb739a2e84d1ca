// The state of a warp: its registers, its threads' local memory and asynchronous copies, and where each lane is.

import { AsyncCopies, type Landing } from './async-copy.ts';
import type { AddressRef, PredicateRef, Slot } from './binder.ts';
import type { Block } from './block.ts';
import { local_window, nowhere, type Place, param_window, Region, shared_window, windowOf } from './memory.ts';
import { PtxError } from './syntax.ts';
import { WarpgroupProducts } from './wgmma.ts';

export class Warp {
  readonly block: Block;
  readonly index: number;
  /** Lanes that are threads of the block. */
  readonly lanes: number;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly f32: Float32Array;
  readonly f64: Float64Array;
  readonly u64: BigUint64Array;
  readonly i64: BigInt64Array;
  /** The carry flag, a bit per lane. */
  carry = 0;
  readonly copies: AsyncCopies;
  readonly products: WarpgroupProducts;
  /** Set by an instruction after which other warps should run. */
  yields = false;
  readonly #local: Region;
  readonly #localBytes: number;

  constructor(block: Block, index: number, lanes: number, words: number, localBytes: number, landing: Landing) {
    this.block = block;
    this.index = index;
    this.lanes = lanes;
    const buffer = new ArrayBuffer(words * 4);
    this.u32 = new Uint32Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.f32 = new Float32Array(buffer);
    this.f64 = new Float64Array(buffer);
    this.u64 = new BigUint64Array(buffer);
    this.i64 = new BigInt64Array(buffer);
    this.copies = new AsyncCopies(landing);
    this.products = new WarpgroupProducts(landing);
    this.#localBytes = Math.ceil(localBytes / 16) * 16;
    this.#local = localBytes === 0 ? nowhere : new Region('local memory', 32 * this.#localBytes);
  }

  /** A bit per lane. */
  predicate(ref: PredicateRef): number {
    return ref.negated ? ~this.u32[ref.at]! : this.u32[ref.at]!;
  }

  wide(slot: Slot, lane: number): number {
    if (slot.words === 1) return this.u32[slot.at + lane]!;
    return this.u32[slot.at + 2 * lane]! + this.u32[slot.at + 2 * lane + 1]! * 2 ** 32;
  }

  /** Address of a lane's access in its space. */
  address(ref: AddressRef, lane: number): number {
    return this.wide(ref.slot, lane) + ref.offset;
  }

  /** Where `size` bytes at an address of a space are; in `generic` space the address says which memory it is. */
  locate(space: string, address: number, size: number, align: number, lane: number, place: Place): void {
    this.#region(space, address, lane, place);
    const { region, offset } = place;
    if (offset < 0 || offset + size > region.bytes || offset % align !== 0) {
      try {
        region.check(offset, size, align);
      } catch (error) {
        throw new PtxError(`lane ${lane}: ${(error as Error).message}`);
      }
    }
    if (region === this.#local) place.offset += lane * this.#localBytes;
  }

  #region(space: string, address: number, lane: number, place: Place): void {
    const window = space === 'generic' ? windowOf(address) : 0;
    const isIn = (name: string, start: number) => space === name || window === start;
    place.offset = address - window;
    if (isIn('shared', shared_window)) place.region = this.block.shared;
    else if (isIn('local', local_window)) place.region = this.#local;
    else if (isIn('param', param_window)) place.region = this.block.params;
    else if (!this.block.global.locate(address, place)) {
      throw new PtxError(`lane ${lane}: nothing is at 0x${address.toString(16)} of ${space} memory`);
    }
  }
}
