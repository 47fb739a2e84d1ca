// swiftkv convert: a SwiftKV checkpoint of a plain model, to be distilled.

import { Command } from 'commander';
import { convertModel } from '../train/convert.ts';
import { withInterrupt } from './exit.ts';
import { byteSize, positiveInteger } from './model-options.ts';
import { formatBytes } from './table.ts';

interface ConvertFlags {
  kvLayers: string;
  groupSize: number;
  out: string;
  variant?: boolean;
  shardSize?: number;
}

export function convertCommand(): Command {
  return new Command('convert')
    .description('make a SwiftKV checkpoint of a plain model: what distillation starts from')
    .argument('<base>', 'a Hugging Face folder or embedded:NAME')
    .requiredOption('--kv-layers <n>', 'layers that keep their own K and V: a count, or a share such as 50%')
    .option('--group-size <g>', 'later layers that share one cache (AcrossKV)', positiveInteger, 1)
    .requiredOption('--out <dir>', 'the folder to write; it must not exist or be empty')
    .option(
      '--variant',
      "write only SwiftKV's own tensors, and a config that names the base (default for embedded:NAME)",
    )
    .option('--no-variant', 'write one whole checkpoint (default for a folder)')
    .option('--shard-size <size>', 'tensors in one file at most, e.g. 2GB (default: 5GB)', byteSize)
    .action((base: string, flags: ConvertFlags) =>
      withInterrupt(async (signal) => {
        const { kvLayers, groupSize, out, variant, shardSize } = flags;
        const made = await convertModel(base, { kvLayers, groupSize, out, variant, maxShardBytes: shardSize, signal });
        const { numKvLayers, addedTensors, addedBytes, config } = made;
        process.stderr.write(
          `wrote ${out}: ${config.modelType}, layers 0 to ${numKvLayers - 1} of ${config.numLayers} keep their K and V, ` +
            `groups of ${groupSize}, ${addedTensors} tensors added (${formatBytes(addedBytes)})` +
            `${made.variant ? '; everything else is in the base that its config.json names' : ''}\n`,
        );
      }),
    );
}
