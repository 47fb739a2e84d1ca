// The package as its users get it: packed, installed into an empty folder, imported, and made to generate.

import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));
const maxTarballBytes = 20 * 2 ** 20;

let folder: string;
let tarball: string;
let files: string[];

/** Runs an ES module in the installing project's folder and returns what it prints. */
async function runThere(source: string): Promise<string> {
  const script = join(folder, 'app', 'script.mjs');
  await writeFile(script, source);
  const { stdout } = await run(process.execPath, [script], { cwd: join(folder, 'app') });
  return stdout.trim();
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'swiftkv-pack-'));
  // The build exists; packing must not run it again under the tests that use it.
  await run('npm', ['run', 'prepack', '--silent'], { cwd: root });
  const packed = await run('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', folder], { cwd: root });
  const [report] = JSON.parse(packed.stdout) as [{ filename: string; files: { path: string }[] }];
  tarball = join(folder, report.filename);
  files = report.files.map((file) => file.path);
  await run('mkdir', [join(folder, 'app')]);
  await writeFile(join(folder, 'app', 'package.json'), JSON.stringify({ name: 'app', private: true, type: 'module' }));
  await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', tarball], { cwd: join(folder, 'app') });
}, 300_000);

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

describe('the tarball', () => {
  it('holds what runs and nothing else', () => {
    const wanted = [
      'package.json',
      'README.md',
      'LICENSE',
      'dist/index.js',
      'dist/index.d.ts',
      'dist/kernels/index.js',
      'dist/kernels/index.d.ts',
      'dist/train/index.js',
      'dist/train/index.d.ts',
      'dist/cli/main.js',
      `prebuilds/${process.platform}-${process.arch}/swiftkv.node`,
      'models/base/model.safetensors',
      'models/swiftkv-50/model.safetensors',
    ];
    expect(files).toEqual(expect.arrayContaining(wanted));
    const strays = files.filter(
      (path) => !/^(package\.json|README\.md|LICENSE|dist\/|prebuilds\/|models\/)/.test(path),
    );
    expect(strays).toEqual([]);
    expect(files.filter((path) => /\.map$|^dist\/golden|\.ts$/.test(path) && !path.endsWith('.d.ts'))).toEqual([]);
  });

  it('is small enough for a registry', async () => {
    expect((await stat(tarball)).size).toBeLessThan(maxTarballBytes);
  });

  it('runs no script on installation and lets no tool build it', async () => {
    const manifest = JSON.parse(await readFile(join(folder, 'app/node_modules/swiftkv/package.json'), 'utf8'));
    for (const script of ['preinstall', 'install', 'postinstall']) expect(manifest.scripts?.[script]).toBeUndefined();
    expect(manifest.gypfile).toBe(false);
    expect(files).not.toContain('binding.gyp');
  });

  it('has entry points that publint finds no fault with', async () => {
    const { stdout } = await run('npx', ['publint', 'run', tarball, '--strict'], { cwd: root });
    expect(stdout).toContain('All good!');
  });
});

describe('the installed package', () => {
  it('generates on an embedded model', async () => {
    const output = await runThere(`
      import { Engine, SwiftKVError } from 'swiftkv';
      const engine = await Engine.load('embedded:swiftkv-50');
      const { tokenIds, text, usage } = await engine
        .generate({ prompt: 'Once upon a time', maxTokens: 8, temperature: 0, ignoreEos: true })
        .result();
      await engine.dispose();
      console.log(JSON.stringify({ count: tokenIds.length, text, skipped: usage.rowLayersSkipped > 0, e: typeof SwiftKVError }));
    `);
    const result = JSON.parse(output);
    expect(result).toMatchObject({ count: 8, skipped: true, e: 'function' });
    expect(result.text.length).toBeGreaterThan(0);
  });

  it('offers its kernels', async () => {
    const output = await runThere(`
      import { openDevice, ops, Tensor } from 'swiftkv/kernels';
      const device = openDevice();
      const a = Tensor.from(device, Float32Array.of(1, 2), [1, 2]);
      const w = Tensor.from(device, Float32Array.of(3, 4), [1, 2], { layout: 'panels' });
      const y = Tensor.zeros(device, [1, 1]);
      await ops.linear({ a, w, y });
      console.log(y.toFloat32Array()[0]);
      device.dispose();
    `);
    expect(output).toBe('11');
  });

  it('has types that a strict project compiles against', async () => {
    const app = join(folder, 'app');
    await writeFile(
      join(app, 'index.ts'),
      `import { Engine } from 'swiftkv';
       import { ops, PagedKVCache, Tensor } from 'swiftkv/kernels';
       export const load: (dir: string) => Promise<Engine> = (dir) => Engine.load(dir, { dtype: 'auto' });
       export const used = [ops.rms_norm, PagedKVCache, Tensor.zeros];
       export async function text(engine: Engine): Promise<string> {
         let all = '';
         for await (const part of engine.generate({ prompt: 'x' })) if (part.type === 'text') all += part.text;
         return all;
       }\n`,
    );
    const compilerOptions = {
      noEmit: true,
      strict: true,
      module: 'nodenext',
      target: 'es2022',
      lib: ['es2023', 'esnext.disposable', 'dom'],
      types: [],
    };
    await writeFile(join(app, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['index.ts'] }));
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    await run(process.execPath, [tsc, '-p', app]).catch((error: { stdout: string }) => expect.fail(error.stdout));
  });

  it('generates from the command line', async () => {
    const args = ['swiftkv', 'generate', 'embedded:swiftkv-50', '--prompt', 'Once upon a time', '-n', '4', '--json'];
    const { stdout } = await run('npx', args, { cwd: join(folder, 'app') });
    expect(JSON.parse(stdout)).toMatchObject({ usage: { completionTokens: expect.any(Number) } });
  });
});
