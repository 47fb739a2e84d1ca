// The tensors that SwiftKV starts from, against those that the reference creates.

import { join } from 'node:path';
import { readSmallFile } from '../checkpoint/files.ts';
import { parseJsonObject } from '../checkpoint/json.ts';
import { openBase, parseLayout } from '../train/base-model.ts';
import { initialTensors } from '../train/swiftkv-init.ts';
import { type Comparison, compareBits } from './compare.ts';
import { readTensors } from './format.ts';

/** `name.json` names the plain model, n and G; `name.safetensors` has the tensors, of the model widened to f32. */
export async function checkInit(dir: string, name: string): Promise<Comparison[]> {
  const path = join(dir, `${name}.json`);
  const json = parseJsonObject(await readSmallFile(path, 'ERR_IO'), path);
  const base = await openBase(join(dir, String(json['teacher'])));
  const layout = parseLayout(base.config, Number(json['num_key_value_layers']), Number(json['key_value_group_size']));
  const made = await initialTensors(base, layout, 'f32');
  const expected = [...(await readTensors(join(dir, `${name}.safetensors`)))].filter(([key]) =>
    key.includes('_swiftkv'),
  );
  const missing = [...made.keys()].filter((key) => !expected.some(([other]) => other === key));
  const names = `${made.size} tensors${missing.length === 0 ? '' : `, of them not expected: ${missing.join(', ')}`}`;
  return [
    { what: 'the same tensors', ok: missing.length === 0, detail: names, maxAbs: 0 },
    ...expected.map(([key, { values }]) =>
      compareBits(key, made.get(key)?.data ?? new Float32Array(0), values as Float32Array),
    ),
  ];
}
