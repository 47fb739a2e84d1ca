// Memory spaces. Every global allocation is a region of its own, far from the next, so that an access out of bounds is an
// error and not another array. Bytes that nobody has written are 0xff: NaN in every float type.

import { PtxError } from './syntax.ts';

const window_bytes = 2 ** 32;
/** Generic addresses of what belongs to a block or a thread. */
export const shared_window = window_bytes;
export const local_window = 2 * window_bytes;
export const param_window = 3 * window_bytes;
const first_global = 16;
/** Allocations begin this far below a multiple of 2^32, so that addresses computed in 32 bits go wrong. */
const below_boundary = 4096;

export class Region {
  readonly name: string;
  readonly bytes: number;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;

  constructor(name: string, bytes: number) {
    this.name = name;
    this.bytes = bytes;
    const buffer = new ArrayBuffer(Math.ceil(bytes / 16) * 16);
    this.u8 = new Uint8Array(buffer).fill(0xff);
    this.u16 = new Uint16Array(buffer);
    this.u32 = new Uint32Array(buffer);
  }

  check(offset: number, size: number, align: number): void {
    if (!(offset >= 0 && offset + size <= this.bytes)) {
      throw new PtxError(`${size} bytes at ${offset} of ${this.name}, which has ${this.bytes}`);
    }
    if (offset % align !== 0) throw new PtxError(`offset ${offset} of ${this.name} is not a multiple of ${align}`);
  }
}

/** Where an access goes; reused, as there is one per lane and instruction. */
export interface Place {
  region: Region;
  offset: number;
}

interface Mapping {
  readonly start: number;
  readonly end: number;
  readonly region: Region;
}

export class GlobalMemory {
  readonly #mappings: Mapping[] = [];
  #last: Mapping | undefined;

  /** The address of new memory. */
  allocate(name: string, content: number | ArrayBufferView): number {
    const address = (first_global + this.#mappings.length) * window_bytes - below_boundary;
    this.map(name, address, content);
    return address;
  }

  /** Memory at an address that somebody else has chosen. */
  map(name: string, address: number, content: number | ArrayBufferView): void {
    const bytes = typeof content === 'number' ? content : content.byteLength;
    const region = new Region(name, bytes);
    if (typeof content !== 'number') {
      region.u8.set(new Uint8Array(content.buffer, content.byteOffset, content.byteLength));
    }
    this.#mappings.push({ start: address, end: address + bytes, region });
  }

  /** The content of an allocation, live. */
  bytes(address: number): Uint8Array {
    const place: Place = { region: nowhere, offset: 0 };
    if (!this.locate(address, place)) throw new PtxError(`no memory at 0x${address.toString(16)}`);
    return place.region.u8.subarray(place.offset, place.region.bytes);
  }

  /** False where nothing is near; whether the whole access fits is for the caller to check. */
  locate(address: number, place: Place): boolean {
    let found = this.#last;
    if (found === undefined || address < found.start || address >= found.end) {
      found = this.#mappings.find((m) => address >= m.start && address < m.end);
      if (found === undefined) return false;
      this.#last = found;
    }
    place.region = found.region;
    place.offset = address - found.start;
    return true;
  }
}

export const nowhere = new Region('nothing', 0);

export function windowOf(address: number): number {
  return Math.floor(address / window_bytes) * window_bytes;
}
