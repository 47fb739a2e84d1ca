// Measurements of several peers in turn, A B A B: what disturbs the machine for longer than a measurement meets all.

/** What one peer does once. Repeats, a few times at most, while others take more of the machine than `limit`. */
async function undisturbed(attempt, { limit, repeats }) {
  let best = await attempt();
  for (let again = 0; again < repeats && best.others !== null && best.others > limit; again++) {
    const next = await attempt();
    if (next.others < best.others) best = next;
  }
  return { ...best, disturbed: best.others !== null && best.others > limit };
}

/**
 * @param {PeerClient[]} peers
 * @param {{ rounds: number, policy: { limit: number, repeats: number } }} options
 * @param {(peer, seed: number) => Promise<{ ms: number, others: number | null }>} once
 * @returns {Promise<Map<string, { ms: number, others: number | null, disturbed: boolean }[]>>} by name, by round
 */
export async function interleave(peers, { rounds, policy }, once) {
  const results = new Map(peers.map((peer) => [peer.name, []]));
  let seed = 1;
  for (let round = 0; round < rounds; round++) {
    for (const peer of peers) results.get(peer.name).push(await undisturbed(() => once(peer, seed++), policy));
  }
  return results;
}

/** Milliseconds of prefill; of node-llama-cpp with the batch size that a first try found faster. */
export async function measurePrefill(peers, tokens, vocabSize, options) {
  const batchSizes = new Map();
  for (const peer of peers) {
    const tries = [];
    // Prompts that fit the smaller batch run alike in both.
    const fitting = peer.batchSizes.filter((_, i) => i === 0 || tokens > peer.batchSizes[i - 1]);
    for (const batchSize of fitting.length > 0 ? fitting : [undefined]) {
      const { ms } = await peer.call('prefill', { vocabSize, tokens, seed: 0, batchSize });
      tries.push({ batchSize, ms });
    }
    batchSizes.set(peer.name, tries);
  }
  const best = (peer) => batchSizes.get(peer.name).reduce((a, b) => (b.ms < a.ms ? b : a)).batchSize;
  const results = await interleave(peers, options, (peer, seed) =>
    peer.call('prefill', { vocabSize, tokens, seed, batchSize: best(peer) }),
  );
  return { results, tries: Object.fromEntries(batchSizes) };
}

/** Milliseconds of `tokens` decode steps after a prompt of `context` ids. */
export async function measureDecode(peers, { context, tokens }, vocabSize, options, knownPids = []) {
  return await interleave(peers, options, (peer, seed) =>
    peer.call('decode', { vocabSize, context, tokens, seed, knownPids }),
  );
}

/** Decode with and without a busy neighbour, in turns. */
export async function measureNeighbour(peers, sizes, vocabSize, options, neighbour) {
  const once = { ...options, rounds: 1 };
  const quiet = new Map(peers.map((peer) => [peer.name, []]));
  const busy = new Map(peers.map((peer) => [peer.name, []]));
  for (let round = 0; round < options.rounds; round++) {
    for (const [state, all] of [
      ['asleep', quiet],
      ['busy', busy],
    ]) {
      neighbour[state]();
      const results = await measureDecode(peers, sizes, vocabSize, once, [neighbour.pid]);
      for (const [name, one] of results) all.get(name).push(...one);
    }
  }
  neighbour.asleep();
  return { quiet, busy };
}
