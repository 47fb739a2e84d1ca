// Worker threads load the addon, work, and are terminated at random moments; this thread works during the first half.
// Arguments: the addon, a file for weights, rounds, a seed.

import { Worker } from 'node:worker_threads';
import { loadAddon, startWork, writeWeights } from './work.mjs';

const [addonPath, weights, rounds, seed] = process.argv.slice(2);
const failed = (error) => {
  console.error(error);
  process.exit(3);
};

let state = Number(seed);
function random() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
}

writeWeights(weights);
const device = startWork(loadAddon(addonPath), weights, (error) => {
  if (error.code !== 'ERR_DISPOSED' && error.code !== 'ERR_ABORTED') failed(error);
});
const url = new URL('worker.mjs', import.meta.url);
for (let round = 0; round < Number(rounds); ++round) {
  if (round === Math.floor(Number(rounds) / 2)) device.close();
  const workers = [0, 1].map(() => new Worker(url, { workerData: { addonPath, weights } }));
  for (const worker of workers) worker.on('error', failed);
  // From before the addon is loaded to well into the work.
  if (round % 3 > 0) await new Promise((resolve) => workers[0].once('message', resolve));
  await new Promise((resolve) => setTimeout(resolve, random() * (round % 3 > 0 ? 40 : 80)));
  await Promise.all(workers.map((worker) => worker.terminate()));
}
console.log('survived');
process.exit(0);
