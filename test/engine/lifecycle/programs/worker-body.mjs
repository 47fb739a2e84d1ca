// A worker thread that goes through an engine's life and says where it is.

import { parentPort, workerData } from 'node:worker_threads';
import { load, prompt } from './engine.mjs';

parentPort.postMessage('start');
const loading = load({ threads: 1 });
parentPort.postMessage('load');
const engine = await loading;
parentPort.postMessage('prefill');
for await (const part of engine.generate({ tokenIds: prompt, maxTokens: workerData.tokens, ignoreEos: true })) {
  if (part.type === 'text') parentPort.postMessage('decode');
}
await engine.dispose();
parentPort.postMessage('disposed');
