// What the user types or pipes: lines, joined where one ends with a backslash, and Ctrl-C.

import { createInterface } from 'node:readline';

export interface ChatInput {
  readonly interactive: boolean;
  /** Entries in order; ends with Ctrl-D or the end of the pipe. */
  entries(): AsyncGenerator<string, void, undefined>;
  /** What Ctrl-C on a terminal does from now on. */
  onInterrupt(handler: () => void): void;
  close(): void;
}

export function openInput(stdin: NodeJS.ReadStream, stderr: NodeJS.WriteStream): ChatInput {
  const interactive = stdin.isTTY === true;
  // The prompt goes to stderr: stdout has the answers and nothing else.
  const lines = createInterface({ input: stdin, output: stderr, terminal: interactive, prompt: '> ' });
  const iterator = lines[Symbol.asyncIterator]();
  let interrupt = () => {};
  let closed = false;
  lines.on('SIGINT', () => interrupt());
  lines.on('close', () => {
    closed = true;
  });
  const ask = (prompt: string) => {
    if (!interactive || closed) return;
    lines.setPrompt(prompt);
    lines.prompt();
  };
  return {
    interactive,
    async *entries() {
      let entry = '';
      for (;;) {
        ask(entry === '' ? '> ' : '. ');
        const next = await iterator.next();
        if (next.done) break;
        const continues = next.value.endsWith('\\');
        entry += continues ? `${next.value.slice(0, -1)}\n` : next.value;
        if (continues) continue;
        yield entry;
        entry = '';
      }
      if (entry !== '') yield entry;
    },
    onInterrupt(handler) {
      interrupt = handler;
    },
    close: () => lines.close(),
  };
}
