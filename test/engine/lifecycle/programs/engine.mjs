// What the scripts share: a small engine of the built package, and an end that says what happened.

export const { Engine } = await import(new URL('../../../../dist/index.js', import.meta.url).href);

export const small = { threads: 2, maxModelLen: 256, kvCacheBytes: 2 ** 20, maxBatchRows: 64, maxSequences: 4 };
export const load = (options = {}) => Engine.load('embedded:swiftkv-50', { ...small, ...options });
export const prompt = Array.from({ length: 200 }, (_, i) => (i * 37) % 250);

export function fail(message) {
  console.error(message);
  process.exit(3);
}

/** The code of what the promise rejects with; anything else ends the process. */
export async function codeOf(promise) {
  try {
    await promise;
  } catch (error) {
    return error.code ?? fail(error);
  }
  return 'resolved';
}
