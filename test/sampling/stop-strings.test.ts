// Stop strings in text that comes in pieces, against a search in the whole text.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { StopMatcher } from '../../lib/sampling/stop-strings.ts';

/** Boring: for every end, is there a stop string that ends here? */
function search(text: string, stops: readonly string[], include: boolean) {
  for (let end = 1; end <= text.length; end++) {
    const here = stops.filter((stop) => text.slice(0, end).endsWith(stop)).sort((a, b) => b.length - a.length);
    const stopped = here[0];
    if (stopped !== undefined) return { text: text.slice(0, include ? end : end - stopped.length), stopped };
  }
  return { text, stopped: null };
}

function run(pieces: readonly string[], stops: readonly string[], include: boolean) {
  const matcher = new StopMatcher(stops, include);
  let text = '';
  for (const piece of pieces) {
    const match = matcher.push(piece);
    text += match.text;
    if (match.stopped !== null) return { text, stopped: match.stopped };
  }
  return { text: text + matcher.end(), stopped: null };
}

// Two letters: stop strings overlap themselves and each other in most runs.
const word = (minLength: number, maxLength: number) =>
  fc.array(fc.constantFrom('a', 'b'), { minLength, maxLength }).map((letters) => letters.join(''));

describe('StopMatcher', () => {
  it('finds the same as a search in the whole text, however the text is cut', () => {
    fc.assert(
      fc.property(
        fc.array(word(0, 5), { maxLength: 12 }),
        fc.array(word(1, 6), { minLength: 1, maxLength: 4 }),
        fc.boolean(),
        (pieces, stops, include) => {
          const text = pieces.join('');
          expect(run(pieces, stops, include)).toEqual(search(text, stops, include));
          expect(run([...text], stops, include)).toEqual(search(text, stops, include));
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('holds back exactly what may still become a stop string', () => {
    fc.assert(
      fc.property(word(0, 12), fc.array(word(1, 5), { minLength: 1, maxLength: 3 }), (text, stops) => {
        const { text: released, stopped } = new StopMatcher(stops, false).push(text);
        fc.pre(stopped === null);
        const lengths = [...text].map((_, i) => text.length - i);
        const held = lengths.find((n) => stops.some((stop) => stop.length > n && stop.startsWith(text.slice(-n)))) ?? 0;
        expect(released).toBe(text.slice(0, text.length - held));
      }),
      { numRuns: 2000 },
    );
  });

  it('takes time in proportion to the text where beginnings of stop strings abound', () => {
    const matcher = new StopMatcher([`${'a'.repeat(999)}b`], false);
    let released = 0;
    for (let i = 0; i < 1000; i++) released += matcher.push('a'.repeat(1000)).text.length;
    expect(released).toBe(1_000_000 - 999);
  });
});
