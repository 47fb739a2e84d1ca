// Finds full blocks of the KV cache by what is in them: a chain of nodes, each the 16 tokens of a block after those of its
// parent. Which blocks are in use is the BlockManager's business. Only checkIntegrity allocates.

import { createHash } from 'node:crypto';
import { SwiftKVError } from '../errors.ts';
import { blockTokens } from './block-table.ts';
import { LruList } from './lru-list.ts';

/** Of a node: its parent (or root) and 16 tokens from `at` on, as an int32. */
export type NodeHash = (parent: number, tokens: Int32Array, at: number) => number;

/** Where the chains of a tenant begin, so that tenants with different salts share nothing. Negative: no node's id. */
export function rootOf(salt: string): number {
  return -1 - createHash('sha256').update(salt, 'utf16le').digest().readUIntBE(0, 6);
}

export const hashNode: NodeHash = (parent, tokens, at) => {
  let hash = mix(mix(0, parent | 0), Math.floor(parent / 2 ** 32) | 0);
  for (let i = at; i < at + blockTokens; i++) hash = mix(hash, tokens[i]!);
  // The low bits choose the place: all the others have to reach them.
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
};

function mix(hash: number, value: number): number {
  let k = Math.imul(value, 0xcc9e2d51);
  k = Math.imul((k << 15) | (k >>> 17), 0x1b873593);
  const mixed = hash ^ k;
  return (Math.imul((mixed << 13) | (mixed >>> 19), 5) + 0xe6546b64) | 0;
}

export class PrefixCache {
  /** Registered blocks that no table holds, the longest unused first. */
  readonly idle: LruList;

  private readonly numBlocks: number;
  private readonly hash: NodeHash;
  /**
   * [numBlocks] the node whose content a block has, 0 = none yet. Several blocks may have the content of one node; the
   * first of them is registered: it is the one that is found.
   */
  private readonly node: Float64Array;
  private readonly registered: Uint8Array;
  /** Of registered blocks: [numBlocks] parent node or root, [numBlocks * 16] tokens, [numBlocks] hash of both. */
  private readonly parent: Float64Array;
  private readonly tokens: Int32Array;
  private readonly hashes: Int32Array;
  /** Open addressing, linear probing, at most half full: block + 1, 0 = empty. */
  private readonly places: Int32Array;
  private nextNode = 1;

  constructor(numBlocks: number, hash: NodeHash = hashNode) {
    this.numBlocks = numBlocks;
    this.hash = hash;
    this.idle = new LruList(numBlocks);
    this.node = new Float64Array(numBlocks);
    this.registered = new Uint8Array(numBlocks);
    this.parent = new Float64Array(numBlocks);
    this.tokens = new Int32Array(numBlocks * blockTokens);
    this.hashes = new Int32Array(numBlocks);
    let places = 2;
    while (places < numBlocks * 2) places *= 2;
    this.places = new Int32Array(places);
  }

  nodeOf(block: number): number {
    return this.node[block]!;
  }

  isRegistered(block: number): boolean {
    return this.registered[block] === 1;
  }

  /** The block that holds the 16 tokens from `at` on after those of `parent`; -1 when there is none. */
  find(parent: number, tokens: Int32Array, at: number): number {
    return this.lookUp(parent, tokens, at, this.hash(parent, tokens, at));
  }

  /** Notes what a block holds, which is now computed; where another block is known to hold the same, that one is found. */
  register(block: number, parent: number, tokens: Int32Array, at: number): void {
    if (this.node[block] !== 0) throw defect(`block ${block} was to be registered twice`);
    const hash = this.hash(parent, tokens, at);
    const same = this.lookUp(parent, tokens, at, hash);
    if (same >= 0) {
      this.node[block] = this.node[same]!;
      return;
    }
    this.node[block] = this.nextNode++;
    this.registered[block] = 1;
    this.parent[block] = parent;
    this.hashes[block] = hash;
    const base = block * blockTokens;
    for (let i = 0; i < blockTokens; i++) this.tokens[base + i] = tokens[at + i]!;
    const mask = this.places.length - 1;
    let place = hash & mask;
    while (this.places[place] !== 0) place = (place + 1) & mask;
    this.places[place] = block + 1;
  }

  /** The block will hold something else, or what it holds is not to be found any more. */
  forget(block: number): void {
    this.node[block] = 0;
    if (this.registered[block] === 0) return;
    this.registered[block] = 0;
    const { places, hashes } = this;
    const mask = places.length - 1;
    let gap = hashes[block]! & mask;
    while (places[gap] !== block + 1) gap = (gap + 1) & mask;
    places[gap] = 0;
    // Those that follow move up, unless that would put them before the place where the search for them begins.
    for (let place = (gap + 1) & mask; places[place] !== 0; place = (place + 1) & mask) {
      const home = hashes[places[place]! - 1]! & mask;
      if (((place - home) & mask) < ((place - gap) & mask)) continue;
      places[gap] = places[place]!;
      places[place] = 0;
      gap = place;
    }
  }

  /**
   * @param held [numBlocks] tables that hold each block
   * @throws ERR_INTERNAL naming the first contradiction
   */
  checkIntegrity(held: Int32Array): void {
    const idle = this.idle.members();
    if (idle === null) throw defect('the list of idle blocks is broken');
    for (const block of idle) {
      if (!this.isRegistered(block)) throw defect(`block ${block} is kept for hits and not registered`);
      if (held[block]! > 0) throw defect(`block ${block} is held ${held[block]} times and listed as idle`);
    }
    const nodes = new Set<number>();
    for (let block = 0; block < this.numBlocks; block++) {
      if (!this.isRegistered(block)) continue;
      const node = this.node[block]!;
      if (node < 1 || node >= this.nextNode || nodes.has(node)) throw defect(`block ${block} is node ${node}`);
      nodes.add(node);
      const parent = this.parent[block]!;
      if (parent === 0 || parent >= node) throw defect(`node ${node} follows node ${parent}`);
      const found = this.find(parent, this.tokens, block * blockTokens);
      if (found !== block) throw defect(`block ${block} was sought and ${found} found`);
    }
    let entries = 0;
    for (const entry of this.places) {
      if (entry === 0) continue;
      entries++;
      if (!this.isRegistered(entry - 1)) throw defect(`block ${entry - 1} can be found and is not registered`);
    }
    if (entries !== nodes.size) throw defect(`${entries} blocks can be found of ${nodes.size} registered`);
  }

  /** Checks that a table's first `count` blocks are a chain, each of whose nodes follows the one before. */
  checkChain(blocks: Int32Array, count: number): void {
    for (let i = 0; i < count; i++) {
      const block = blocks[i]!;
      if (this.node[block] === 0) throw defect(`block ${block} in a chain has no node`);
      if (!this.isRegistered(block)) continue;
      const parent = this.parent[block]!;
      if (i === 0 ? parent >= 0 : parent !== this.node[blocks[i - 1]!]) {
        throw defect(`block ${block} follows node ${parent} and stands at ${i} of a table`);
      }
    }
  }

  private lookUp(parent: number, tokens: Int32Array, at: number, hash: number): number {
    const { places, hashes } = this;
    const mask = places.length - 1;
    for (let place = hash & mask; places[place] !== 0; place = (place + 1) & mask) {
      const block = places[place]! - 1;
      if (hashes[block] === hash && this.holds(block, parent, tokens, at)) return block;
    }
    return -1;
  }

  private holds(block: number, parent: number, tokens: Int32Array, at: number): boolean {
    if (this.parent[block] !== parent) return false;
    const base = block * blockTokens;
    for (let i = 0; i < blockTokens; i++) if (this.tokens[base + i] !== tokens[at + i]) return false;
    return true;
  }
}

function defect(what: string): SwiftKVError {
  return new SwiftKVError('ERR_INTERNAL', `Prefix cache: ${what}`);
}
