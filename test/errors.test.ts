// The one list of codes: what is documented, what is declared and what is thrown are the same.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { type ErrorCode, errorCodes, SwiftKVError, toSwiftKVError } from '../lib/errors.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const codes = Object.keys(errorCodes) as ErrorCode[];

function sources(folder: string, extension: RegExp): { path: string; text: string }[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => extension.test(name))
    .map((name) => ({ path: join(folder, name), text: readFileSync(join(root, folder, name), 'utf8') }));
}

/** Code without comments. */
function bare(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|[^:])\/\/.*$/gm, '$1');
}

const typescript = sources('lib', /\.ts$/);
const native = sources('csrc', /\.(cpp|h)$/);
const page = readFileSync(join(root, 'docs/errors.md'), 'utf8');

/** Codes that TypeScript names where it is no comment, and codes that C++ raises. */
function thrown(): Set<string> {
  const found = new Set<string>();
  for (const { path, text } of typescript) {
    if (path === join('lib', 'errors.ts')) continue;
    for (const [, code] of bare(text).matchAll(/'(ERR_[A-Z_]+)'/g)) found.add(code!);
  }
  for (const { path, text } of native) {
    if (path.endsWith(join('addon', 'errors.cpp')) || path.endsWith('status.h')) continue;
    for (const [, name] of bare(text).matchAll(/(?:Error\(|fail\(|\{)Code::(\w+)/g)) {
      if (name !== 'ok') found.add(`ERR_${name!.toUpperCase()}`);
    }
  }
  // toSwiftKVError makes this one of whatever has no code.
  found.add('ERR_INTERNAL');
  return found;
}

describe('the codes', () => {
  it('that are thrown are those that are declared', () => {
    expect(
      [...thrown()].filter((code) => !Object.hasOwn(errorCodes, code) && !/^ERR_USE|^ERR_MODULE/.test(code)),
    ).toEqual([]);
    expect(codes.filter((code) => !thrown().has(code))).toEqual([]);
  });

  it('that comments name exist', () => {
    for (const { path, text } of [...typescript, ...native]) {
      for (const [code] of text.matchAll(
        /\bERR_(?:MODEL|CONTEXT|CACHE|OUT|NO|CHAT|INVALID|ABORTED|DISPOSED|NUMERIC)[A-Z_]*/g,
      )) {
        expect(codes, path).toContain(code);
      }
    }
  });

  it('of native code are all mapped', () => {
    const header = native.find(({ path }) => path.endsWith('status.h'))!.text;
    const declared = [...header.matchAll(/= \d+,\s+\/\/ (ERR_\w+)/g)].map(([, code]) => code);
    expect(declared.length).toBeGreaterThan(7);
    const mapping = native.find(({ path }) => path.endsWith(join('addon', 'errors.cpp')))!.text;
    for (const code of declared) {
      expect(codes).toContain(code);
      expect(mapping).toContain(`"${code}"`);
    }
  });
});

describe('docs/errors.md', () => {
  const sections = page.split(/^## /m).slice(1);

  it('has a section for each code, in order', () => {
    expect(sections.map((section) => section.split('\n', 1)[0])).toEqual(codes);
  });

  it.each(codes)('says of %s what it means, when it comes, what to do, and an example', (code) => {
    const section = sections.find((text) => text.startsWith(`${code}\n`))!;
    expect(section).toContain(`- Means: ${errorCodes[code]}.`);
    for (const field of ['When', 'Do', 'Example']) expect(section).toMatch(new RegExp(`^- ${field}: \\S`, 'm'));
    // Who can mend it.
    expect(page.split('## ')[0]).toContain(`\`${code}\``);
  });
});

describe('toSwiftKVError', () => {
  it('keeps a code that is known and takes everything else for a defect', () => {
    const native = Object.assign(new Error('x'), { code: 'ERR_IO' });
    expect(toSwiftKVError(native)).toMatchObject({ code: 'ERR_IO', message: 'x', cause: native });
    expect(toSwiftKVError(Object.assign(new Error('x'), { code: 'ENOENT' })).code).toBe('ERR_INTERNAL');
    expect(toSwiftKVError(Object.assign(new Error('x'), { code: 'toString' })).code).toBe('ERR_INTERNAL');
    expect(toSwiftKVError('text')).toMatchObject({ code: 'ERR_INTERNAL', message: 'text' });
    const own = new SwiftKVError('ERR_ABORTED', 'y');
    expect(toSwiftKVError(own)).toBe(own);
  });
});
