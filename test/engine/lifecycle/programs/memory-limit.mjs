// In a cgroup that limits memory: pools of every size around what fits load and work, or are refused; nobody is killed.

import { availableMemory } from '../../../../dist/machine/memory.js';
import { fail, load } from './engine.mjs';

const MiB = 2 ** 20;
const seen = { loaded: 0, refused: 0 };
const room = availableMemory();
for (let kvCacheBytes = room - 96 * MiB; kvCacheBytes <= room; kvCacheBytes += 8 * MiB) {
  try {
    const engine = await load({ kvCacheBytes: Math.floor(kvCacheBytes) });
    await engine.generate({ prompt: 'Once', maxTokens: 4 }).result();
    await engine.dispose();
    seen.loaded++;
  } catch (error) {
    if (error.code !== 'ERR_OUT_OF_MEMORY' || !/The model needs .*KV cache/.test(error.message)) fail(error.stack);
    seen.refused++;
  }
}
if (seen.loaded === 0 || seen.refused === 0) fail(JSON.stringify({ room, ...seen }));
const last = await load();
await last.dispose();
console.log('survived');
