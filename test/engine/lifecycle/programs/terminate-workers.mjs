// Workers are terminated at every stage of an engine's life; the main thread's engine works all the while.

import { Worker } from 'node:worker_threads';
import { fail, load, prompt } from './engine.mjs';

const url = new URL('worker-body.mjs', import.meta.url);
const engine = await load({ threads: 1 });
const question = { tokenIds: prompt.slice(0, 50), maxTokens: 6, temperature: 0, ignoreEos: true };
const expected = String((await engine.generate(question).result()).tokenIds);

const reaches = (worker, stage) =>
  new Promise((resolve) => worker.on('message', (message) => message === stage && resolve()));
for (const stage of ['none', 'start', 'load', 'prefill', 'decode', 'disposed']) {
  for (const turns of [0, 3, 20]) {
    const worker = new Worker(url, { workerData: { tokens: stage === 'disposed' ? 2 : 50 } });
    worker.on('error', (error) => fail(`${stage}: ${error.stack}`));
    const beside = engine.generate(question).result();
    if (stage !== 'none') await reaches(worker, stage);
    for (let i = 0; i < turns; i++) await new Promise(setImmediate);
    await worker.terminate();
    if (String((await beside).tokenIds) !== expected) fail(`${stage}: the main thread's engine answers otherwise`);
  }
}
await engine.dispose();
if (engine.memory().environment.total !== 0) fail(JSON.stringify(engine.memory()));
console.log('survived');
