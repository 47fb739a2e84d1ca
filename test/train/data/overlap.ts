// Whether training data has what models are judged on: facts of recall items, and held-out documents.

/** The sentence or line of a prompt that states its answer. */
export interface Fact {
  item: string;
  text: string;
}

/** Consecutive words that two documents have in common only if one copies the other, boilerplate aside. */
const gramWords = 13;

/** Sentences and lines: both a statement in prose and a row of a table are one. */
export function statementsOf(text: string): string[] {
  return text
    .split(/(?<=[.!?]) |\n/)
    .map((part) => part.trim())
    .filter((part) => part.length >= 12);
}

/** Every statement of an item's prompt that has its answer. Questions follow the context and never have it. */
export function factsOf(item: { id: string; prompt: string; answer: string }): Fact[] {
  return statementsOf(item.prompt)
    .filter((text) => text.includes(item.answer))
    .map((text) => ({ item: item.id, text }));
}

export interface Leak {
  document: number;
  what: string;
}

/** Facts that training texts state in the same words. */
export function leakedFacts(texts: readonly string[], facts: readonly Fact[]): Leak[] {
  const known = new Map(facts.map(({ item, text }) => [text, item]));
  const leaks: Leak[] = [];
  texts.forEach((text, document) => {
    for (const statement of statementsOf(text)) {
      const item = known.get(statement);
      if (item !== undefined) leaks.push({ document, what: `${item}: ${statement}` });
    }
  });
  return leaks;
}

/**
 * Held-out documents of which a training text has at least `share` of all runs of 13 words, wherever they stand, or which
 * make up as much of the training text.
 */
export function leakedDocuments(texts: readonly string[], heldOut: readonly string[], share = 0.5): Leak[] {
  const owners = new Map<string, number[]>();
  const sizes = heldOut.map((text, owner) => {
    const grams = new Set(gramsOf(text));
    for (const gram of grams) owners.set(gram, [...(owners.get(gram) ?? []), owner]);
    return grams.size;
  });
  const leaks: Leak[] = [];
  texts.forEach((text, document) => {
    const grams = new Set(gramsOf(text));
    const common = new Map<number, number>();
    for (const gram of grams) {
      for (const owner of owners.get(gram) ?? []) common.set(owner, (common.get(owner) ?? 0) + 1);
    }
    for (const [owner, count] of common) {
      if (count >= share * Math.min(sizes[owner]!, grams.size)) {
        leaks.push({ document, what: `held-out document ${owner}: ${count} of ${sizes[owner]} runs of words` });
      }
    }
  });
  return leaks;
}

function gramsOf(text: string): string[] {
  const words = text.toLowerCase().match(/[a-z0-9']+/g) ?? [];
  // A text shorter than a run is one.
  const count = Math.max(words.length > 0 ? 1 : 0, words.length - gramWords + 1);
  return Array.from({ length: count }, (_, i) => words.slice(i, i + gramWords).join(' '));
}
