// swiftkv export: a self-contained Hugging Face folder from a variant that names its base.

import { Command } from 'commander';
import { exportModel } from '../checkpoint/export.ts';
import { resolveModel } from '../model/embedded.ts';

export function exportCommand(): Command {
  return new Command('export')
    .description('write a self-contained Hugging Face folder: all tensors, config and tokenizer')
    .argument('<model>', 'a Hugging Face folder or embedded:NAME')
    .argument('<out>', 'the folder to write; it must not exist or be empty')
    .action(async (model: string, out: string) => {
      await exportModel(resolveModel(model), out);
      process.stderr.write(`wrote ${out}\n`);
    });
}
