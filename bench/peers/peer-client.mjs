// The parent's end of a peer process.

import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(new URL('./peer-process.mjs', import.meta.url));

export class PeerClient {
  #child = fork(script);
  #next = 0;
  #waiting = new Map();

  constructor(name) {
    this.name = name;
    this.#child.on('message', ({ id, result, error }) => {
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) resolve(result);
      else reject(Object.assign(new Error(`${this.name}: ${error.message}`), { code: error.code }));
    });
    this.#child.on('exit', (code, signal) => {
      for (const { reject } of this.#waiting.values()) {
        reject(new Error(`${this.name}: its process ended (${signal ?? `exit code ${code}`})`));
      }
      this.#waiting.clear();
    });
  }

  /** @param {'open' | 'prefill' | 'decode' | 'close'} method as in peer-process.mjs */
  call(method, ...args) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.send({ id, method, args });
    });
  }

  kill() {
    this.#child.kill('SIGKILL');
  }
}
