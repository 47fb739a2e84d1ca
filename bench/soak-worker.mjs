// One life of an engine on a worker thread, for soak.mjs: ended by itself, or by whoever terminates it.

import { parentPort, workerData } from 'node:worker_threads';
import { Engine } from '../dist/index.js';

const engine = await Engine.load(workerData.model, workerData.options);
parentPort.postMessage('loaded');
await engine.generate(workerData.request).result();
await engine.dispose();
parentPort.postMessage(engine.memory().environment.total);
