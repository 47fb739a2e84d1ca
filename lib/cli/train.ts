// swiftkv train: all parameters of a model, from tokens.

import { Command } from 'commander';
import { train } from '../train/run.ts';
import { withInterrupt } from './exit.ts';
import { nonNegativeNumber } from './model-options.ts';
import { addTrainOptions, report, requireTrainFlags, runOptionsOf, type TrainFlags } from './train-options.ts';

export function trainCommand(): Command {
  const command = new Command('train')
    .description(
      'train all parameters of a model on texts and on documents with answers; Ctrl-C saves, --resume goes on',
    )
    .argument('<base>', 'a Hugging Face folder or embedded:NAME');
  return addTrainOptions(command)
    .option('--lr <x>', 'learning rate (default: 1e-3)', nonNegativeNumber)
    .action((base: string, flags: TrainFlags) =>
      withInterrupt((signal) => {
        requireTrainFlags(flags);
        return report(train(base, runOptionsOf(flags, signal)), flags);
      }),
    );
}
