// Finds stop strings in text that comes in pieces, and holds back what may still become one.

export interface StopMatch {
  /** Text that is certainly part of the answer. */
  text: string;
  /** The stop string that was found, or null. */
  stopped: string | null;
}

/** One stop string, and how much of it the text so far ends with (Knuth, Morris, Pratt 1977). */
interface Pattern {
  text: string;
  /** [i]: length of the longest proper prefix of the pattern that its first i + 1 units end with. */
  borders: Int32Array;
  matched: number;
}

/**
 * What is found depends on the text alone, not on how it is cut into pieces: the stop string that is complete first; of
 * those complete at the same place, the longest.
 */
export class StopMatcher {
  private readonly patterns: Pattern[];
  private readonly include: boolean;
  /** The end of the text, as long as the longest beginning of a stop string that the text ends with. */
  private held = '';

  /** @param include whether the stop string is part of the answer */
  constructor(stops: readonly string[], include: boolean) {
    this.patterns = stops.map((text) => ({ text, borders: bordersOf(text), matched: 0 }));
    this.include = include;
  }

  /** After a match there must be no more calls. */
  push(piece: string): StopMatch {
    const text = this.held + piece;
    for (let at = this.held.length; at < text.length; at++) {
      const found = this.advance(text.charCodeAt(at));
      if (found === null) continue;
      const end = at + 1;
      this.held = '';
      return { text: text.slice(0, this.include ? end : end - found.length), stopped: found };
    }
    const kept = text.length - this.longestBeginning();
    this.held = text.slice(kept);
    return { text: text.slice(0, kept), stopped: null };
  }

  /** What was held back, when no more text comes. */
  end(): string {
    const text = this.held;
    this.held = '';
    return text;
  }

  private advance(unit: number): string | null {
    let found: string | null = null;
    for (const pattern of this.patterns) {
      const { text, borders } = pattern;
      let matched = pattern.matched;
      while (matched > 0 && text.charCodeAt(matched) !== unit) matched = borders[matched - 1]!;
      if (text.charCodeAt(matched) === unit) matched++;
      pattern.matched = matched;
      if (matched === text.length && (found === null || text.length > found.length)) found = text;
    }
    return found;
  }

  private longestBeginning(): number {
    let longest = 0;
    for (const { matched } of this.patterns) longest = Math.max(longest, matched);
    return longest;
  }
}

function bordersOf(text: string): Int32Array {
  const borders = new Int32Array(text.length);
  for (let i = 1, border = 0; i < text.length; i++) {
    while (border > 0 && text[border] !== text[i]) border = borders[border - 1]!;
    if (text[border] === text[i]) border++;
    borders[i] = border;
  }
  return borders;
}
