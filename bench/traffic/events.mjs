// What an engine tells of itself on its channels, held against what a request can go through.

import { subscribe } from 'node:diagnostics_channel';
import { isDeepStrictEqual } from 'node:util';

const ends = new Set(['finished', 'aborted', 'failed']);

export class Events {
  /** Of each event, and of steps, copies and rows of steps. */
  counts = { steps: 0, copies: 0, rows: 0 };
  #watch;
  /** Answers that have not ended: what has happened to each. */
  #open = new Map();

  constructor(watch) {
    this.#watch = watch;
    subscribe('swiftkv:step', (step) => {
      this.counts.steps++;
      this.counts.copies += step.copies;
      this.counts.rows += step.rows;
    });
    subscribe('swiftkv:request', (message) => this.#take(message));
  }

  /** Fails where an answer is still on its way though nobody waits for one, or where the engine counted otherwise. */
  checkIdle(stats) {
    for (const [name, seen] of this.#open) this.#watch.fail(`answer ${name} has not ended: ${[...seen].join(', ')}`);
    this.#open.clear();
    const { requests, cache, steps } = stats;
    const counted = { ...requests, steps, used: cache.used };
    const { queued = 0, finished = 0, aborted = 0, failed = 0 } = this.counts;
    const expected = {
      queued,
      finished,
      aborted,
      failed,
      rejected: requests.rejected,
      steps: this.counts.steps,
      used: 0,
    };
    if (!isDeepStrictEqual(counted, expected) || queued !== finished + aborted + failed) {
      this.#watch.fail(`stats() says ${JSON.stringify(counted)}, its events say ${JSON.stringify(expected)}`);
    }
  }

  #take({ request, index, event }) {
    this.counts[event] = (this.counts[event] ?? 0) + 1;
    const name = `${request}.${index}`;
    const seen = this.#open.get(name);
    const wrong = this.#complaint(seen, event);
    if (wrong !== null) this.#watch.fail(`answer ${name} ${wrong}: ${event} after ${[...(seen ?? [])].join(', ')}`);
    if (ends.has(event)) this.#open.delete(name);
    else if (seen === undefined) this.#open.set(name, new Set([event]));
    else seen.add(event);
  }

  #complaint(seen, event) {
    if (event === 'queued') return seen === undefined ? null : 'came twice';
    if (seen === undefined) return 'goes on after its end';
    if (event === 'started' && seen.has('started')) return 'started twice';
    if (event === 'first token' && (seen.has(event) || !seen.has('started'))) return 'has no first token now';
    if (event === 'preempted' && !seen.has('started')) return 'had nothing to lose';
    if (event === 'finished' && !seen.has('first token')) return 'has no answer';
    return null;
  }
}
