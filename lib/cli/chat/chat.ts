// swiftkv chat: a conversation in a terminal or over a pipe. Answers go to stdout, everything else to stderr.

import { Command } from 'commander';
import { SwiftKVError } from '../../errors.ts';
import { abortError } from '../../model/abort.ts';
import { withInterrupt } from '../exit.ts';
import { addModelOptions, loadEngine, type ModelFlags, modelArgument } from '../model-options.ts';
import { addSamplingOptions, type SamplingFlags, samplingOf } from '../sampling-options.ts';
import { Conversation } from './conversation.ts';
import { type ChatInput, openInput } from './input.ts';
import { ChatSession } from './session.ts';

interface ChatFlags extends ModelFlags, SamplingFlags {
  system?: string;
}

export function chatCommand(): Command {
  const command = new Command('chat')
    .description('talk with a model: answers stream as they come')
    .argument('<model>', modelArgument)
    .option('--system <text>', 'a system message before the conversation');
  addSamplingOptions(command).addHelpText('after', help);
  return addModelOptions(command).action((model: string, flags: ChatFlags) =>
    withInterrupt((signal) => chat(model, flags, signal)),
  );
}

const commands = `  /reset   begin a new conversation
  /stats   what the last answer took, and how full the context is
  /help    this list
  /exit    leave (or Ctrl-D)
`;

const help = `
A line is a message; one that ends with a backslash goes on in the next. Lines that begin with a slash are commands:

${commands}
Write // to begin a message with a slash. Ctrl-C stops an answer, and what was said of it stays; a second one leaves.
Answers go to stdout, everything else to stderr. When stdin is no terminal, a line is a message, too, and the first error ends
the command.

A conversation that outgrows the context loses its oldest messages with their answers; the system message stays. It is
said when that happens. A quarter of the context is kept for the answer, or --max-tokens if that is less.

Examples:
  swiftkv chat embedded:base --system "The code for Mara is 4821."
  printf 'The code for Mara is 4821. What is the code for Mara?\\n' | swiftkv chat embedded:swiftkv-50 -t 0
`;

async function chat(model: string, flags: ChatFlags, signal: AbortSignal): Promise<void> {
  const engine = await loadEngine(model, flags, signal);
  try {
    if (!engine.info().chatTemplate) {
      throw new SwiftKVError(
        'ERR_CHAT_TEMPLATE',
        `Expected ${model} to have a chat template, which turns a conversation into a prompt; use swiftkv generate`,
      );
    }
    const countTokens = async (text: string) => (await engine.tokenize(text, { addSpecialTokens: false })).length;
    const conversation = await Conversation.open(countTokens, flags.system);
    const session = new ChatSession(engine, conversation, samplingOf(flags));
    const input = openInput(process.stdin, process.stderr);
    try {
      if (input.interactive) process.stderr.write(`${model}: /help lists the commands, Ctrl-D leaves.\n`);
      await converse(session, input, signal);
    } finally {
      input.close();
    }
  } finally {
    await engine.dispose();
  }
}

async function converse(session: ChatSession, input: ChatInput, signal: AbortSignal): Promise<void> {
  let stop: AbortController | null = null;
  let leaving = false;
  input.onInterrupt(() => {
    if (leaving || stop?.signal.aborted) {
      stop?.abort();
      leaving = true;
      input.close();
      return;
    }
    if (stop === null) {
      leaving = true;
      process.stderr.write('\n(Ctrl-C again leaves)\n> ');
    } else stop.abort();
  });
  signal.addEventListener('abort', () => input.close(), { once: true });
  for await (const entry of input.entries()) {
    leaving = false;
    const text = entry.trim();
    if (text === '/exit') return;
    if (text === '') continue;
    if (text.startsWith('/') && !text.startsWith('//')) {
      runCommand(session, text);
      continue;
    }
    stop = new AbortController();
    try {
      await session.say(
        text.startsWith('//') ? text.slice(1) : text,
        AbortSignal.any([stop.signal, signal]),
        stop.signal,
      );
    } catch (error) {
      if (!input.interactive || !SwiftKVError.is(error) || error.code === 'ERR_INTERNAL') throw error;
      process.stderr.write(`(${error.message}, ${error.code})\n`);
    } finally {
      stop = null;
    }
    if (leaving) return;
  }
  if (signal.aborted) throw abortError(signal);
}

function runCommand(session: ChatSession, command: string): void {
  if (command === '/reset') {
    session.reset();
    process.stderr.write('(a new conversation)\n');
  } else if (command === '/stats') process.stderr.write(session.describe());
  else if (command === '/help') process.stderr.write(commands);
  else process.stderr.write(`(there is no command ${command}; // begins a message with a slash)\n${commands}`);
}
