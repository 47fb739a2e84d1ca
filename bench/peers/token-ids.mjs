// Token ids for measurements: the same for everyone who asks with the same numbers, different for every `seed`.

/** Ids from `first` up: below it a vocabulary has its special and byte tokens. */
const first = 300;

/** @returns {number[]} */
export function randomIds(vocabSize, count, seed) {
  let state = (seed * 2654435761 + 1) >>> 0;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return first + Math.floor((state / 2 ** 32) * (vocabSize - first));
  });
}
