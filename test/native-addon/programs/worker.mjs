// A worker thread that works until it is terminated.

import { parentPort, workerData } from 'node:worker_threads';
import { loadAddon, startWork } from './work.mjs';

startWork(loadAddon(workerData.addonPath), workerData.weights, (error) => {
  throw error;
});
parentPort.postMessage('working');
