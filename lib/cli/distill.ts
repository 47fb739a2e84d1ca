// swiftkv distill: a plain model becomes a SwiftKV model that answers as it did.

import { Command } from 'commander';
import { SwiftKVError } from '../errors.ts';
import { writeArcticRecipe } from '../train/arctic-recipe.ts';
import { openBase, parseLayout } from '../train/base-model.ts';
import { distill } from '../train/run.ts';
import { withInterrupt } from './exit.ts';
import { nonNegativeNumber, positiveInteger } from './model-options.ts';
import { addTrainOptions, oneOf, report, requireTrainFlags, runOptionsOf, type TrainFlags } from './train-options.ts';

interface DistillFlags extends TrainFlags {
  kvLayers?: string;
  groupSize?: number;
  temperature?: number;
  hiddenLoss?: number;
  hiddenLossLayer?: number;
  lossOn?: 'answers' | 'all';
  variant?: boolean;
  recipe?: 'arctic';
}

export function distillCommand(): Command {
  const command = new Command('distill')
    .description(
      "teach SwiftKV's own projections to do what the plain model does, by self-distillation; Ctrl-C saves, --resume goes on",
    )
    .argument('<base>', 'a plain model, or a SwiftKV model with its teacher to go on with: a folder or embedded:NAME')
    .option('--kv-layers <n>', 'layers that keep their own K and V: a count, or a share such as 50%')
    .option('--group-size <g>', 'later layers that share one cache (AcrossKV; default: 1)', positiveInteger);
  return addTrainOptions(command)
    .option('--lr <x>', 'learning rate (default: 2e-4)', nonNegativeNumber)
    .option('--temperature <t>', 'softens the distributions that are compared (default: 2)', nonNegativeNumber)
    .option('--hidden-loss <x>', 'what the distance of hidden states counts (default: 1)', nonNegativeNumber)
    .option('--hidden-loss-layer <l>', 'whose inputs are compared; -2 is the last one (default)', Number)
    .option('--loss-on <tokens>', 'answers, or all tokens (default: answers)', oneOf('answers', 'all'))
    .option(
      '--recipe <trainer>',
      'train nothing: write the configuration of another trainer to DIR.yaml, for models beyond one machine (arctic)',
      oneOf('arctic'),
    )
    .option('--variant', "write only SwiftKV's own tensors and the name of the base (default for embedded:NAME)")
    .option('--no-variant', 'write one whole checkpoint (default for a folder)')
    .action((base: string, flags: DistillFlags) =>
      withInterrupt((signal) => {
        const { hiddenLoss, recipe, ...rest } = flags;
        if (recipe === 'arctic') return writeRecipe(base, flags);
        requireTrainFlags(flags);
        const options = { ...rest, ...runOptionsOf(rest, signal) };
        return report(
          distill(base, { ...options, ...(hiddenLoss !== undefined && { hiddenLossMult: hiddenLoss }) }),
          flags,
        );
      }),
    );
}

/** The options of the public trainer that have a counterpart here; all others are those of its recipes. */
async function writeRecipe(base: string, flags: DistillFlags): Promise<void> {
  const { kvLayers, groupSize, out, maxLength, lr, temperature, hiddenLoss, hiddenLossLayer } = flags;
  const model = await openBase(base);
  if (kvLayers === undefined) throw new SwiftKVError('ERR_INVALID_ARGUMENT', 'Expected --kv-layers with --recipe');
  const file = `${out}.yaml`;
  await writeArcticRecipe(file, model, {
    ...parseLayout(model.config, kvLayers, groupSize ?? 1),
    name: base,
    output: out,
    maxLength,
    learningRate: lr,
    temperature,
    hiddenLossMult: hiddenLoss,
    hiddenLossLayer,
  });
  process.stderr.write(`wrote ${file}\n`);
}
