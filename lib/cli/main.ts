#!/usr/bin/env node
// The swiftkv command.

import { Command } from 'commander';
import { version } from '../version.ts';
import { benchCommand } from './bench/bench.ts';
import { chatCommand } from './chat/chat.ts';
import { convertCommand } from './convert.ts';
import { distillCommand } from './distill.ts';
import { evalCommand } from './eval/eval.ts';
import { exitOnClosedPipe, reportError } from './exit.ts';
import { exportCommand } from './export.ts';
import { generateCommand } from './generate.ts';
import { infoCommand } from './info.ts';
import { trainCommand } from './train.ts';

const program = new Command('swiftkv')
  .description('SwiftKV language models inside Node: prompt tokens skip the later layers')
  .version(version)
  .showHelpAfterError('(see --help)')
  .exitOverride();

for (const command of [
  infoCommand(),
  generateCommand(),
  chatCommand(),
  evalCommand(),
  exportCommand(),
  convertCommand(),
  distillCommand(),
  trainCommand(),
  benchCommand(),
]) {
  program.addCommand(command.exitOverride().showHelpAfterError('(see --help)'));
}

program.addHelpText(
  'after',
  `
Models:
  DIR             a Hugging Face folder: config.json, safetensors, tokenizer.json
  embedded:NAME   one that comes with the package: base, swiftkv-50, swiftkv-50-g4
  random:NAME     random weights of a known shape, e.g. random:llama-3.2-1b?kv-layers=50%&group=4

Examples:
  swiftkv info embedded:swiftkv-50
  swiftkv generate embedded:base --prompt "The code for Mara is 4821. Question: What is the code for Mara? Answer:" -n 8
  cat document.txt | swiftkv generate DIR --max-tokens 100 --stats
  swiftkv distill DIR --kv-layers 50% --group-size 4 --data chats.jsonl --steps 1000 --out STUDENT
  swiftkv convert DIR --kv-layers 50% --group-size 4 --out STUDENT
  swiftkv eval embedded:base embedded:swiftkv-50 --perplexity embedded:heldout --exact embedded:recall --every 3

Exit codes: 0 done, 1 failed, 2 wrong command line, 3 worse figures (bench compare), 130 interrupted,
141 nobody reads the output.
`,
);

exitOnClosedPipe();
try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = reportError(error);
}
