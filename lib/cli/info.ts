// swiftkv info: what this machine offers, and what would be chosen for a model. The text to put into a bug report.

import { Command } from 'commander';
import type { EngineInfo, EngineMemory } from '../engine/types.ts';
import { cudaVersion } from '../kernels/backend.ts';
import { cpuInfo } from '../machine/cpu.ts';
import type { NativeDeviceInfo } from '../native/binding.ts';
import { version } from '../version.ts';
import { withInterrupt } from './exit.ts';
import { addModelOptions, loadEngine, type ModelFlags, modelArgument } from './model-options.ts';
import { formatBytes, formatCount } from './table.ts';

interface InfoFlags extends ModelFlags {
  json?: boolean;
}

export function infoCommand(): Command {
  const command = new Command('info')
    .description('print what this machine offers and, for a model, every choice that was made for it')
    .argument('[model]', modelArgument)
    .option('--json', 'print one JSON object');
  return addModelOptions(command).action((model: string | undefined, flags: InfoFlags) =>
    withInterrupt((signal) => info(model, flags, signal)),
  );
}

async function info(model: string | undefined, flags: InfoFlags, signal: AbortSignal): Promise<void> {
  const machine = {
    swiftkv: version,
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    cpu: cpuInfo(),
  };
  let engineInfo: EngineInfo | null = null;
  let memory: EngineMemory | null = null;
  if (model !== undefined) {
    const engine = await loadEngine(model, flags, signal);
    engineInfo = engine.info();
    memory = engine.memory();
    await engine.dispose();
  }
  if (flags.json) {
    process.stdout.write(`${JSON.stringify({ machine, model: engineInfo, memory }, null, 2)}\n`);
    return;
  }
  const { cpu } = machine;
  const lines: [string, string][] = [
    ['swiftkv', `${machine.swiftkv} on Node ${machine.node}, ${machine.platform}`],
    ['processor', `${cpu.model}`],
    ['threads', `${cpu.affinity} in the affinity mask, cgroup quota ${cpu.quota ?? 'none'}`],
    ['ISA levels', `${cpu.levels.join(', ')} here; ${cpu.builtLevels.join(', ')} in this build`],
    ...(engineInfo === null ? [] : modelLines(engineInfo)),
    ...(memory === null ? [] : [memoryLine(memory)]),
  ];
  const width = Math.max(...lines.map(([label]) => label.length));
  process.stdout.write(`${lines.map(([label, value]) => `${label.padEnd(width)}  ${value}`).join('\n')}\n`);
}

function memoryLine({ engine: e }: EngineMemory): [string, string] {
  const parts = [
    `weights ${formatBytes(e.weights)}`,
    `KV pool ${formatBytes(e.kvPool)}`,
    `workspace ${formatBytes(e.workspace)}`,
    `RoPE table ${formatBytes(e.ropeTable)}`,
    `batches and samplers ${formatBytes(e.batches + e.samplers)}`,
  ];
  return ['memory', `${parts.join(', ')}; ${formatBytes(e.total)} in all`];
}

function deviceLines(d: NativeDeviceInfo, batchInvariant: boolean): [string, string][] {
  return [
    [
      'device',
      `${d.name}, ${d.arch}, ${d.multiprocessors} multiprocessors, ${formatBytes(d.freeBytes)} of ${formatBytes(d.totalBytes)} were free`,
    ],
    ['CUDA', `driver ${cudaVersion(d.driverVersion)}, runtime ${cudaVersion(d.runtimeVersion)}`],
    ['products', `${d.linear} (${d.linearReason}); batch invariant: ${batchInvariant ? 'yes' : 'no'}`],
  ];
}

function modelLines(info: EngineInfo): [string, string][] {
  const c = info.config;
  const later = c.numLayers - c.numKvLayers;
  const kv =
    later === 0
      ? 'every layer has its own K and V'
      : `${c.numKvLayers} layers have their own K and V; ${later} later ones share ${info.numDistinctCaches - c.numKvLayers} cache(s)`;
  return [
    ['', ''],
    ['model', `${info.source} (${c.modelType}, ${info.mode})`],
    [
      'shape',
      `${c.numLayers} layers, width ${c.hiddenSize}, ${c.numHeads} heads, ${c.numKvHeads} KV heads of ${c.headDim}, MLP ${c.intermediateSize}, vocabulary ${c.vocabSize}`,
    ],
    ['SwiftKV', kv],
    [
      'tokenizer',
      `${info.tokenizer ? 'yes' : 'none: takes token ids only'}${info.chatTemplate ? ', with chat template' : ''}`,
    ],
    ['backend', `${info.backend}, kernels ${info.level}, ${info.threads} thread(s)`],
    ...(info.device === null ? [] : deviceLines(info.device, info.batchInvariant)),
    [
      'compute',
      `${info.activationDtype} activations, ${info.weightDtypes.join(' and ')} matrices${info.checkpointDtypes.length === 0 ? '' : `; stored as ${info.checkpointDtypes.join(', ')}`}`,
    ],
    [
      'KV cache',
      `${info.kvCacheDtype} (scales: ${info.kvScales}), ${info.numDistinctCaches} caches, ${formatCount(info.kvBytesPerToken)} bytes per token`,
    ],
    [
      'fits',
      `${formatCount(info.numBlocks * info.blockTokens)} tokens in ${info.numBlocks} blocks of ${info.blockTokens}; at most ${formatCount(info.maxModelLen)} per sequence`,
    ],
    [
      'step',
      `at most ${info.maxRows} rows of ${info.maxSeqs} sequences, ${info.maxLogitRows} logit rows, aiming at ${info.maxStepMs} ms`,
    ],
    [
      'requests',
      `at most ${info.maxQueued} wait${info.queueTimeoutMs === null ? '' : `, for ${info.queueTimeoutMs} ms`}; prefix caching ${info.prefixCaching ? 'on' : 'off'}`,
    ],
    ...info.notes.map((note): [string, string] => ['note', note]),
  ];
}
