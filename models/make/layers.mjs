// A Llama with its layers in another order, to be trained further. A layer called +N is a copy of layer N whose o_proj and
// down_proj are zero, so that at first it changes nothing.
//
// Usage: node layers.mjs MODEL ORDER OUT        e.g. node layers.mjs base 0,3,4,5,6,+6,+7,7 start
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [model, order, out] = process.argv.slice(2);
if (out === undefined) {
  console.error('usage: layers.mjs MODEL ORDER OUT');
  process.exit(2);
}
const layers = order.split(',');

// A safetensors file is the length of its header (u64), the header as JSON, and the bytes of all tensors.
const file = readFileSync(join(model, 'model.safetensors'));
const start = 8 + Number(file.readBigUInt64LE());
const { __metadata__, ...tensors } = JSON.parse(file.subarray(8, start));
const header = { __metadata__ };
const parts = [];
let end = 0;

function add(name, { dtype, shape, data_offsets: [from, to] }, silent = false) {
  header[name] = { dtype, shape, data_offsets: [end, end + to - from] };
  parts.push(silent ? Buffer.alloc(to - from) : file.subarray(start + from, start + to));
  end += to - from;
}

for (const [name, tensor] of Object.entries(tensors)) {
  if (!name.startsWith('model.layers.')) add(name, tensor);
}
for (const [to, layer] of layers.entries()) {
  const prefix = `model.layers.${layer.replace('+', '')}.`;
  const own = Object.entries(tensors).filter(([name]) => name.startsWith(prefix));
  if (own.length === 0) throw new Error(`${model} has no layer ${layer}`);
  for (const [name, tensor] of own) {
    const silent = layer.startsWith('+') && /\.(o_proj|down_proj)\.weight$/.test(name);
    add(`model.layers.${to}.${name.slice(prefix.length)}`, tensor, silent);
  }
}

cpSync(model, out, { recursive: true });
let json = JSON.stringify(header);
json = json.padEnd(Math.ceil(json.length / 8) * 8);
const length = Buffer.alloc(8);
length.writeBigUInt64LE(BigInt(json.length));
writeFileSync(join(out, 'model.safetensors'), Buffer.concat([length, Buffer.from(json), ...parts]));
const config = JSON.parse(readFileSync(join(model, 'config.json'), 'utf8'));
writeFileSync(join(out, 'config.json'), `${JSON.stringify({ ...config, num_hidden_layers: layers.length }, null, 1)}\n`);
