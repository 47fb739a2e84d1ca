// Two environments at once: both compute, neither sees the other's handles, and one's end leaves the other alone.
// Argument: the addon.

import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { loadAddon } from './work.mjs';

const addonPath = isMainThread ? process.argv[2] : workerData;
const addon = loadAddon(addonPath);
const device = addon.openDevice({ backend: 'cpu', threads: 2, level: 'scalar' });

async function checksum(seed) {
  const tensor = addon.tensor(device, 'f32', [1000, 100], 'panels');
  await tensor.fillRandom(seed, 1);
  const sum = tensor.readFloats().reduce((a, b) => a + b, 0);
  tensor.dispose();
  return sum;
}

async function checksums() {
  const sums = [];
  for (let seed = 0; seed < 30; ++seed) sums.push(await checksum(seed));
  return JSON.stringify(sums);
}

if (isMainThread) {
  const workers = [0, 1].map(() => new Worker(new URL(import.meta.url), { workerData: addonPath }));
  const theirs = workers.map((worker) => new Promise((resolve) => worker.once('message', resolve)));
  const ends = workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve)));
  const mine = await checksums();
  const same = (await Promise.all(theirs)).every((sums) => sums === mine);
  const codes = await Promise.all(ends);
  console.log(same && codes.every((code) => code === 0) && (await checksums()) === mine ? 'equal' : 'different');
} else {
  parentPort.postMessage(await checksums());
}
