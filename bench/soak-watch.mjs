// What soaks have in common: a seed that repeats them, promises that must settle, and memory that must not grow.

import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { native } from '../dist/native/load.js';

export const KiB = 2 ** 10;
export const MiB = 2 ** 20;

/** A promise that takes longer hangs; alone they take well under a second. */
const hangMs = 60_000;

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc');

export const turns = async (count) => {
  for (let i = 0; i < count; i++) await new Promise(setImmediate);
};

/** mulberry32: numbers in [0, 1), the same for the same seed. */
export function seeded(seed) {
  let state = seed >>> 0;
  const random = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return { random, integer: (from, to) => from + Math.floor(random() * (to - from + 1)) };
}

/** What went wrong so far: whoever finds something adds it. */
export class Watch {
  failures = [];
  unhandled = 0;
  hangs = 0;
  #start = performance.now();

  constructor() {
    process.on('unhandledRejection', (error) => {
      this.unhandled++;
      this.failures.push(`unhandled rejection: ${error?.stack ?? error}`);
    });
  }

  get seconds() {
    return (performance.now() - this.#start) / 1000;
  }

  fail(message) {
    this.failures.push(message);
  }

  /**
   * Waits for a promise that must settle: in time, and with nothing but success or an expected code.
   * @returns 'done', the expected code, 'failed' or 'late'
   */
  async settles(what, promise, expectedCodes) {
    let timer;
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, hangMs, 'late');
    });
    const outcome = promise.then(
      () => 'done',
      (error) => {
        if (expectedCodes.has(error?.code)) return error.code;
        this.fail(`${what}: ${error?.stack ?? error}`);
        return 'failed';
      },
    );
    const first = await Promise.race([outcome, late]);
    clearTimeout(timer);
    if (first === 'late') {
      this.hangs++;
      this.fail(`${what}: still there after ${hangMs / 1000} s`);
    }
    return first;
  }

  printHeader(more = []) {
    const cells = ['', 'done', 'JS heap', 'RSS-heap', 'native', 'unhandled', 'hangs', ...more, 'seconds'];
    console.log(cells.map((cell) => cell.padStart(12)).join(''));
  }

  /** Adds to `rows`, and prints, what memory is held when `done` of something have ended. Collects garbage. */
  async checkpoint(name, done, rows, more = []) {
    // Twice, with turns between: finalizers run after the first collection.
    gc();
    await turns(5);
    gc();
    const { rss, heapUsed } = process.memoryUsage();
    // Not all that V8 has reserved for its heap is resident: it touches new space long after it grew.
    const outside = rss - getHeapStatistics().total_physical_size;
    const row = { done, heap: heapUsed, outside, native: native().memory().total };
    rows.push(row);
    const memory = [(row.heap / MiB).toFixed(1), (row.outside / MiB).toFixed(1), row.native];
    const cells = [name, done, ...memory, this.unhandled, this.hangs, ...more, this.seconds.toFixed(1)];
    console.log(cells.map((cell) => String(cell).padStart(12)).join(''));
  }

  /**
   * Fails where memory grew between checkpoints, from 30% of the way on, by more than `bound` allows: a fixed sum, since
   * allocators keep fragments and worker threads leave malloc arenas, and a sum for each. Growth is the median of the
   * slopes between checkpoints: one step up, when more overlaps than before, is no slope.
   * @param bound { outside: [fixed, each], heap: [fixed, each] } in bytes
   */
  judgeGrowth(name, rows, bound) {
    const settled = rows.slice(Math.round(0.3 * (rows.length - 1)));
    const count = settled.at(-1).done - settled[0].done;
    for (const what of ['outside', 'heap']) {
      const each = slope(settled, what);
      const allowed = bound[what][0] + bound[what][1] * count;
      const leaks = each * count > allowed;
      console.log(
        `${name}: ${what === 'heap' ? 'JS heap' : 'RSS outside the heap'} grew by ${(each / KiB).toFixed(2)} KiB each, ` +
          `${((each * count) / MiB).toFixed(1)} MiB over ${count}, ${(allowed / MiB).toFixed(1)} MiB allowed: ` +
          `${leaks ? 'a leak' : 'no leak'}`,
      );
      if (leaks) this.fail(`${name}: ${what} grew by ${each} bytes each`);
    }
  }

  /** Prints what went wrong and ends the process: 0 where nothing did. */
  exit() {
    const { unhandled, hangs, failures } = this;
    console.log(
      `unhandled rejections ${unhandled}, hangs ${hangs}, failures ${failures.length}, ${this.seconds.toFixed(1)} s`,
    );
    for (const failure of failures.slice(0, 20)) console.error(failure);
    process.exit(failures.length === 0 ? 0 : 1);
  }
}

/** The median of the slopes between all pairs of points. */
function slope(rows, what) {
  const slopes = rows.flatMap((a, i) => rows.slice(i + 1).map((b) => (b[what] - a[what]) / (b.done - a.done)));
  return slopes.sort((a, b) => a - b)[slopes.length >> 1];
}
