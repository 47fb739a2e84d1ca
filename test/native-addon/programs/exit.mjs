// The process ends with work in flight. Arguments: the addon, a file for weights, milliseconds to wait, how to end.

import { Worker } from 'node:worker_threads';
import { loadAddon, startWork, writeWeights } from './work.mjs';

const [addonPath, weights, wait, how] = process.argv.slice(2);
writeWeights(weights);
startWork(loadAddon(addonPath), weights, (error) => {
  console.error(error);
  process.exit(3);
});
if (how === 'exit with a worker')
  new Worker(new URL('worker.mjs', import.meta.url), { workerData: { addonPath, weights } });
setTimeout(() => {
  console.log('ending');
  if (how === 'throw') throw new Error('on purpose');
  process.exit(0);
}, Number(wait));
