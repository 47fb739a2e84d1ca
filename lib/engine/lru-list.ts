// Numbers 0 .. size - 1 in the order in which they were added, any of which can be taken out at once. No allocation.

export class LruList {
  /** Members. */
  length = 0;
  /** [size + 1] neighbours in a ring whose entry `size` stands between the newest and the oldest; -1 = not a member. */
  private readonly older: Int32Array;
  private readonly newer: Int32Array;
  private readonly end: number;

  constructor(size: number) {
    this.end = size;
    this.older = new Int32Array(size + 1).fill(-1);
    this.newer = new Int32Array(size + 1).fill(-1);
    this.older[size] = size;
    this.newer[size] = size;
  }

  has(member: number): boolean {
    return this.older[member]! !== -1;
  }

  /** The one that has been there longest; -1 when there is none. */
  get oldest(): number {
    return this.length === 0 ? -1 : this.newer[this.end]!;
  }

  /** Adds one that is not there, as the newest. */
  add(member: number): void {
    const { older, newer, end } = this;
    const newest = older[end]!;
    older[member] = newest;
    newer[member] = end;
    newer[newest] = member;
    older[end] = member;
    this.length++;
  }

  remove(member: number): void {
    const { older, newer } = this;
    newer[older[member]!] = newer[member]!;
    older[newer[member]!] = older[member]!;
    older[member] = -1;
    newer[member] = -1;
    this.length--;
  }

  /** From the oldest to the newest; null when the links contradict each other. For tests. */
  members(): number[] | null {
    const found: number[] = [];
    let last = this.end;
    for (let at = this.newer[this.end]!; at !== this.end; at = this.newer[at]!) {
      if (at < 0 || this.older[at] !== last || found.length === this.length) return null;
      found.push(at);
      last = at;
    }
    const linked = this.older.reduce((sum, at) => sum + (at === -1 ? 0 : 1), 0) - 1;
    return this.older[this.end] === last && found.length === this.length && linked === this.length ? found : null;
  }
}
