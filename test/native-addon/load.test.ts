// The loader says what it tried and how to mend it; the addon is the one this package describes.

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { SwiftKVError } from '../../lib/errors.ts';
import { addonPlaces, loadAddon, native } from '../../lib/native/load.ts';

test('the addon loads once and is of this version', () => {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  expect(native()).toBe(native());
  expect(native().version).toBe(version);
  expect(native().blockTokens).toBe(16);
});

test('places: a build of the checkout before a prebuilt file', () => {
  expect(addonPlaces('linux', 'x64')).toEqual(['build/Release/swiftkv.node', 'prebuilds/linux-x64/swiftkv.node']);
});

test('the first place that loads is taken', () => {
  const asked: string[] = [];
  const addon = loadAddon(['a/x.node', 'b/x.node', 'c/x.node'], (path) => {
    asked.push(path);
    if (path.includes('/a/')) throw new Error('no');
    return { version: 'of b' };
  });
  expect(addon.version).toBe('of b');
  expect(asked.map((path) => path.split('/').at(-2))).toEqual(['a', 'b']);
});

test('a failure names platform, every attempt with its reason, and the command that helps', () => {
  let error: unknown;
  try {
    loadAddon(['one.node', 'two.node'], (path) => {
      throw new Error(path.endsWith('one.node') ? 'wrong ELF class\nRequire stack' : 'GLIBC_2.99 not found');
    });
  } catch (e) {
    error = e;
  }
  expect(SwiftKVError.is(error) && error.code).toBe('ERR_NATIVE_LOAD');
  const { message, cause } = error as SwiftKVError & { cause: AggregateError };
  for (const part of [
    `${process.platform}-${process.arch}`,
    'one.node: wrong ELF class',
    'two.node: GLIBC_2.99 not found',
    'npm run build:native',
  ])
    expect(message).toContain(part);
  expect(message).not.toContain('Require stack');
  expect(cause.errors).toHaveLength(2);
});

test('cpuInfo describes this machine', () => {
  const info = native().cpuInfo();
  expect(info.levels[0]).toBe('scalar');
  for (const level of info.levels) expect(info.builtLevels).toContain(level);
  expect(info.affinity).toBeGreaterThanOrEqual(1);
  expect(info.arch.length * info.model.length).toBeGreaterThan(0);
});

test('residentBytes follows memory that is touched', () => {
  const before = native().residentBytes();
  const memory = Buffer.alloc(64 << 20, 1);
  expect(native().residentBytes() - before).toBeGreaterThan(0.9 * memory.length);
});
