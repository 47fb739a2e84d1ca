// What keeps a process alive: an open device does not, a pending promise does. Argument: the addon.

import { loadAddon } from './work.mjs';

const addon = loadAddon(process.argv[2]);
const device = addon.openDevice({ backend: 'cpu', threads: 2, level: 'scalar' });
const tensor = addon.tensor(device, 'f32', [4096, 4096], 'row_major');
tensor.fillRandom(1, 1).then(() => {
  console.log('first');
  setTimeout(() => tensor.fillRandom(2, 1).then(() => console.log('second')), 20);
});
process.on('exit', () => console.log('end'));
