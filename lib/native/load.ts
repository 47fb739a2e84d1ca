// Finds and loads the native addon: known places in order, every failure kept, and at the end the command that helps.

import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SwiftKVError } from '../errors.ts';
import type { NativeBinding } from './binding.ts';

/** The package's folder: this file is two folders below it, in lib/ and in dist/ alike. */
const root = new URL('../../', import.meta.url);

/** Where the addon may be, relative to the package: a build of this checkout first, then what the package ships. */
export function addonPlaces(platform: string, arch: string): string[] {
  return ['build/Release/swiftkv.node', `prebuilds/${platform}-${arch}/swiftkv.node`];
}

/** Loads the first of `places` that works. Throws ERR_NATIVE_LOAD with every attempt and its reason. */
export function loadAddon(places: string[], load: (path: string) => unknown): NativeBinding {
  const attempts: string[] = [];
  const causes: unknown[] = [];
  for (const place of places) {
    try {
      return load(fileURLToPath(new URL(place, root))) as NativeBinding;
    } catch (error) {
      causes.push(error);
      // Node appends a list of requiring modules to "Cannot find module".
      attempts.push(`  ${place}: ${String(error instanceof Error ? error.message : error).split('\n')[0]}`);
    }
  }
  const { platform, arch, version } = process;
  throw new SwiftKVError(
    'ERR_NATIVE_LOAD',
    `The native addon could not be loaded on ${platform}-${arch} (Node ${version}). Tried in ${fileURLToPath(root)}:\n` +
      `${attempts.join('\n')}\n` +
      'In a source checkout, run `npm run build:native` (it needs g++ 12 or newer and cmake 3.22 or newer).',
    { cause: new AggregateError(causes) },
  );
}

let binding: NativeBinding | undefined;
let folder: string | undefined;

/** The addon, loaded on first use; each worker thread has an instance of its own. Throws ERR_NATIVE_LOAD. */
export function native(): NativeBinding {
  const require = createRequire(import.meta.url);
  binding ??= loadAddon(addonPlaces(process.platform, process.arch), (path) => {
    const loaded: unknown = require(path);
    folder = dirname(path);
    return loaded;
  });
  return binding;
}

/** Where the library of another backend is if it has been built: beside the addon, so that both are of one build. */
export function sideLibrary(backend: string): string {
  native();
  return join(folder!, `libswiftkv_${backend}.so`);
}
