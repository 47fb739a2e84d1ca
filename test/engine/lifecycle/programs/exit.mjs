// Ends the process with work in flight, in the way that the argument names.

import cluster from 'node:cluster';
import { Worker } from 'node:worker_threads';
import { codeOf, load, prompt } from './engine.mjs';

const endless = { tokenIds: prompt, maxTokens: 50, ignoreEos: true };
const ways = {
  // The promise is settled before the process ends: work keeps the event loop alive.
  async 'end of script'() {
    const engine = await load();
    engine
      .generate(endless)
      .result()
      .then(() => console.log('survived'));
  },
  async 'engine left alone'() {
    await load();
    console.log('survived');
  },
  async 'unconsumed generate'() {
    const engine = await load();
    engine.generate(endless);
    engine.generate({ nonsense: 1 });
    await new Promise(setImmediate);
    if (engine.info().load.steps === 0) console.log('survived');
  },
  async 'stream never read'() {
    const engine = await load();
    const iterator = engine.generate({ ...endless, maxTokens: 3 })[Symbol.asyncIterator]();
    await iterator.next();
    console.log('survived');
  },
  async 'exit in a callback'() {
    const engine = await load();
    for await (const _ of engine.generate(endless)) {
      console.log('survived');
      process.exit(0);
    }
  },
  async 'exit while loading'() {
    load();
    load();
    setImmediate(() => {
      console.log('survived');
      process.exit(0);
    });
  },
  async 'exit in dispose'() {
    const engine = await load();
    void codeOf(engine.generate(endless).result());
    await new Promise(setImmediate);
    engine.dispose();
    console.log('survived');
    process.exit(0);
  },
  async 'exit in a worker'() {
    const engine = await load();
    const busy = engine.generate(endless).result();
    const body = `const { load, prompt } = await import(${JSON.stringify(new URL('engine.mjs', import.meta.url).href)});
      const engine = await load();
      for await (const _ of engine.generate({ tokenIds: prompt, maxTokens: 50, ignoreEos: true })) process.exit(7);`;
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(body)}`));
    const code = await new Promise((resolve) => worker.on('exit', resolve));
    await busy;
    if (code === 7) console.log('survived');
  },
  async 'uncaught exception'() {
    const engine = await load();
    void codeOf(engine.generate(endless).result());
    setImmediate(() => {
      throw new Error('on purpose');
    });
  },
  async cluster() {
    if (!cluster.isPrimary) {
      const engine = await load({ threads: 1 });
      const { tokenIds } = await engine.generate({ ...endless, maxTokens: 4, temperature: 0 }).result();
      void codeOf(engine.generate(endless).result());
      process.send(String(tokenIds), () => process.exit(0));
      return;
    }
    const answers = [];
    const codes = [];
    for (let i = 0; i < 2; i++) {
      const worker = cluster.fork();
      worker.on('message', (answer) => answers.push(answer));
      codes.push(new Promise((resolve) => worker.on('exit', resolve)));
    }
    const ended = await Promise.all(codes);
    if (answers.length === 2 && answers[0] === answers[1] && ended.every((code) => code === 0)) console.log('survived');
  },
};
// The way by name, also in the processes of a cluster, which get the same arguments.
await ways[process.argv[2]]();
