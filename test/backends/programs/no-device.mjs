// Asks for a GPU where there is none, then works on the cpu. Prints what it was told and what the cpu answered.
import { fileURLToPath } from 'node:url';
import { Engine } from '../../../dist/index.js';

const small = fileURLToPath(new URL('../../golden/data/llama_swiftkv_g2', import.meta.url));
const said = [];
for (let i = 0; i < 2; i++) {
  const error = await Engine.load(small, { device: 'cuda' }).catch((e) => e);
  said.push({ code: error.code, message: error.message });
}
const engine = await Engine.load(small, { threads: 1 });
const { tokenIds } = await engine.generate({ tokenIds: [1, 2, 3], maxTokens: 2, ignoreEos: true }).result();
await engine.dispose();
console.log(JSON.stringify({ said, tokenIds }));
