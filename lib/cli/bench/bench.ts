// swiftkv bench: what this machine makes of the kernels and of whole models.

import { Command } from 'commander';
import { compareCommand } from './compare.ts';
import { kernelsCommand } from './kernels.ts';
import { latencyCommand } from './latency.ts';
import { qualityCommand } from './quality.ts';
import { throughputCommand } from './throughput.ts';

export function benchCommand(): Command {
  const command = new Command('bench').description('measure kernels and models on this machine').addHelpText(
    'after',
    `
Examples:
  swiftkv bench kernels --filter linear
  swiftkv bench latency random:llama-3.2-1b --pp 512 --depth 0
  swiftkv bench throughput --offline --rate-fraction 0.8
  swiftkv bench quality embedded:base
  swiftkv bench compare before.json after.json
`,
  );
  for (const one of [kernelsCommand(), latencyCommand(), throughputCommand(), qualityCommand(), compareCommand()]) {
    command.addCommand(one.exitOverride().showHelpAfterError('(see --help)'));
  }
  return command;
}
