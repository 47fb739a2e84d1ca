// swiftkv bench kernels: every op over the shapes of named models, against what the machine does at most.

import { Command } from 'commander';
import { SwiftKVError } from '../../errors.ts';
import { cpuInfo, type Device, openDevice } from '../../kernels/device.ts';
import { ops } from '../../kernels/ops.ts';
import { Tensor } from '../../kernels/tensor.ts';
import { abortError } from '../../model/abort.ts';
import { randomShapes } from '../../model/random.ts';
import { withInterrupt } from '../exit.ts';
import { positiveInteger } from '../model-options.ts';
import { benchEnvironment, describeEnvironment } from './environment.ts';
import { type CaseOptions, type KernelGroup, type KernelShape, type WeightDType, weightDTypes } from './kernel-case.ts';
import { kernelColumns, kernelLegend } from './kernel-report.ts';
import { type KernelResult, kernelResult } from './kernel-result.ts';
import { Meter, timeSlice } from './meter.ts';
import { kernelGroups } from './ops/index.ts';
import { choiceList, integerList, listOption, nameList, sizeOption } from './options.ts';
import { note, type OutputFlags, renderTable, status, writeJson } from './output.ts';
import { watch } from './quiet.ts';
import { median } from './statistics.ts';
import { Workbench } from './workbench.ts';

export interface KernelFlags extends OutputFlags {
  filter?: string[];
  shapes: string[];
  weightDtype: WeightDType[];
  rows: number[];
  contexts: number[];
  threads?: number;
  isa?: string;
  time: number;
  rotate: number;
}

/** Of the calls that tell what a call costs. */
const callTimeMs = 20;

export function kernelsCommand(): Command {
  return new Command('kernels')
    .description('time every op over the shapes of models, against the peaks measured in the same run')
    .option('--filter <ops>', 'only ops whose name begins with one of these, e.g. linear,attention', nameList)
    .addOption(
      listOption(
        '--shapes <names>',
        `models whose shapes to take: ${Object.keys(randomShapes).join(', ')}`,
        choiceList(Object.keys(randomShapes)),
        ['llama-3.2-1b'],
      ),
    )
    .addOption(
      listOption(
        '--weight-dtype <types>',
        `of the weights: ${Object.keys(weightDTypes).join(', ')}`,
        choiceList(Object.keys(weightDTypes) as WeightDType[]),
        Object.keys(weightDTypes) as WeightDType[],
      ),
    )
    .addOption(
      listOption(
        '--rows <list>',
        'rows of a call: 1 is a decode step, 512 a chunk of a prompt',
        integerList(1),
        [1, 512],
      ),
    )
    .addOption(listOption('--contexts <list>', 'keys that attention sees', integerList(1), [2048, 8192]))
    .option('--threads <n>', 'threads of the kernels (default: from affinity and cgroup quota)', positiveInteger)
    .option('--isa <level>', 'ISA level of the kernels (default: the best here)')
    .option('--time <ms>', 'to spend on calls of each case', positiveInteger, 300)
    .addOption(sizeOption('--rotate <size>', 'memory that weights and caches are taken from in turn', '256MiB'))
    .option('--json <file>', 'write every result as JSON; - is stdout, instead of the table')
    .option('--markdown', 'print the table as markdown')
    .addHelpText('after', kernelHelp)
    .action((flags: KernelFlags) => withInterrupt((signal) => benchKernels(flags, signal)));
}

const kernelHelp = `
A line is the median of all calls of one case, and the spread of their middle half. Weights, and the caches that decode
reads, are taken in turn from --rotate bytes, so that they come from memory as they do in a model. Multiply-adds in
registers and reads from memory are measured before, between and after the calls: the percentages compare with the
medians of those. "of limit" is the least time that either allows, over the time taken. A case during which other
processes took CPU time that it needed is measured again, up to twice, and marked ! if that did not help.

Examples:
  swiftkv bench kernels --filter linear,attention
  swiftkv bench kernels --shapes llama-3.1-8b --weight-dtype bf16 --rows 1,8,64,512 --markdown
  swiftkv bench kernels --isa avx2 --threads 1 --json kernels.json
`;

async function benchKernels(flags: KernelFlags, signal: AbortSignal): Promise<void> {
  const chosen = chooseOps(flags.filter);
  using device = openDevice({
    ...(flags.threads !== undefined && { threads: flags.threads }),
    ...(flags.isa !== undefined && { level: flags.isa }),
  });
  const environment = benchEnvironment(
    'bench kernels',
    cpuInfo(),
    { isa: device.level, threads: device.threads },
    flags,
  );
  note(describeEnvironment(environment));
  using meter = await Meter.open(device, flags.rotate);
  const callMs = callCost(device);
  const results: KernelResult[] = [];
  for (const shape of flags.shapes) {
    for (const group of groupsOf(chosen, randomShapes[shape]!, flags)) {
      for await (const result of measureGroup(shape, group, meter, flags, callMs, signal)) results.push(result);
    }
  }
  status('');
  if (flags.json !== '-') {
    process.stdout.write(`${renderTable(kernelColumns(flags.shapes.length > 1), results, flags.markdown ?? false)}\n`);
    process.stdout.write(`\n${kernelLegend(results, callMs)}\n`);
  }
  if (flags.json !== undefined) await writeJson(flags.json, environment, { callMs }, results);
}

async function* measureGroup(
  shape: string,
  group: KernelGroup,
  meter: Meter,
  flags: KernelFlags,
  callMs: number,
  signal: AbortSignal,
): AsyncGenerator<KernelResult> {
  using bench = new Workbench(meter.device, flags.rotate);
  status(`${shape} ${group.op} ${group.name} ${group.dtype}`);
  const kind = meter.choose(group.peaks);
  for (const one of await group.open(bench)) {
    if (signal.aborted) throw abortError(signal);
    const watched = await watch(meter.device.threads, () => meter.time(one.run, kind, flags.time));
    yield kernelResult(shape, group, one, kind, watched, callMs);
  }
}

type OpKey = keyof typeof kernelGroups;

function chooseOps(filter: readonly string[] | undefined): OpKey[] {
  const all = Object.keys(kernelGroups) as OpKey[];
  const wrong = filter?.find((prefix) => !all.some((op) => op.startsWith(prefix)));
  if (wrong !== undefined) {
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `Expected beginnings of ${all.join(', ')} for --filter but received ${wrong}`,
    );
  }
  return all.filter((op) => filter === undefined || filter.some((prefix) => op.startsWith(prefix)));
}

function groupsOf(chosen: readonly OpKey[], shape: KernelShape, flags: KernelFlags): KernelGroup[] {
  const options: CaseOptions = { rows: flags.rows, contexts: flags.contexts, weightDTypes: flags.weightDtype };
  return chosen.flatMap((op) => kernelGroups[op](shape, options));
}

/** Milliseconds of a call that has nothing to do. */
function callCost(device: Device): number {
  using from = Tensor.zeros(device, [0, 1]);
  using out = Tensor.zeros(device, [0, 1]);
  return median(timeSlice(() => ops.sync.copy_rows({ in: from, out }), callTimeMs));
}
