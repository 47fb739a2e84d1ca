// What the block manager and its prefix cache should do, with objects, strings and lists.

/** One block, as the tables that share it see it. */
export interface Cell {
  /** The content that it is found by. */
  key: string | null;
  /** The content it has, as the blocks after it name it: two blocks with the same content may have the same. */
  node: string | null;
  holders: number;
}

export class Reference {
  free: number;
  /** Found, but held by nobody; oldest first. */
  readonly idle: Cell[] = [];
  readonly found = new Map<string, Cell>();
  /** Given back during a step. */
  private readonly deferred: Cell[] = [];
  private stepRunning = false;
  evictions = 0;
  private nodes = 0;

  constructor(numBlocks: number) {
    this.free = numBlocks;
  }

  /** The cells of a new table and how many of them are hits; null when there is no room. */
  admit(tokens: readonly number[], root: number, spare: number): { cells: Cell[]; hits: number } | null {
    const cells: Cell[] = [];
    let before = `root ${root}`;
    while (root < 0 && (cells.length + 1) * 16 < tokens.length) {
      const cell = this.found.get(keyOf(before, tokens, cells.length));
      if (cell === undefined) break;
      cells.push(cell);
      before = cell.node!;
    }
    const fresh = Math.ceil(tokens.length / 16) - cells.length;
    const available = this.free + this.idle.filter((cell) => !cells.includes(cell)).length;
    if (fresh + spare > available) return null;
    const hits = cells.length;
    for (const cell of cells) this.hold(cell);
    for (let i = 0; i < fresh; i++) cells.push(this.take());
    return { cells, hits };
  }

  fork(parent: readonly Cell[], length: number, spare: number): Cell[] | null {
    const shared = Math.floor((length - 1) / 16);
    const fresh = Math.ceil(length / 16) - shared;
    if (fresh + spare > this.free + this.idle.length) return null;
    const cells = parent.slice(0, shared);
    for (const cell of cells) this.hold(cell);
    for (let i = 0; i < fresh; i++) cells.push(this.take());
    return cells;
  }

  append(cells: Cell[], length: number): boolean {
    const fresh = Math.ceil(length / 16) - cells.length;
    if (fresh > this.free + this.idle.length) return false;
    for (let i = 0; i < fresh; i++) cells.push(this.take());
    return true;
  }

  register(cells: readonly Cell[], tokens: readonly number[], from: number, to: number, root: number): void {
    for (let i = Math.floor(from / 16); i < Math.floor(to / 16); i++) {
      const key = keyOf(i === 0 ? `root ${root}` : cells[i - 1]!.node!, tokens, i);
      const same = this.found.get(key);
      cells[i]!.node = same?.node ?? `node ${this.nodes++}`;
      if (same !== undefined) continue;
      cells[i]!.key = key;
      this.found.set(key, cells[i]!);
    }
  }

  release(cells: Cell[]): void {
    for (const cell of cells.reverse()) {
      if (--cell.holders > 0) continue;
      if (this.stepRunning) this.deferred.push(cell);
      else this.giveBack(cell);
    }
  }

  beginStep(): void {
    this.stepRunning = true;
  }

  endStep(): void {
    this.stepRunning = false;
    for (const cell of this.deferred.splice(0)) this.giveBack(cell);
  }

  reset(): void {
    for (const cell of this.found.values()) cell.key = null;
    this.found.clear();
    this.free += this.idle.splice(0).length;
  }

  private hold(cell: Cell): void {
    if (cell.holders++ === 0) this.idle.splice(this.idle.indexOf(cell), 1);
  }

  private giveBack(cell: Cell): void {
    if (cell.key !== null) this.idle.push(cell);
    else this.free++;
  }

  private take(): Cell {
    if (this.free > 0) this.free--;
    else {
      this.found.delete(this.idle.shift()!.key!);
      this.evictions++;
    }
    return { key: null, node: null, holders: 1 };
  }
}

function keyOf(before: string, tokens: readonly number[], index: number): string {
  return JSON.stringify([before, tokens.slice(index * 16, (index + 1) * 16)]);
}
