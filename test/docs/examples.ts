// The TypeScript examples of a page: found, type-checked and run as a user would, importing the built package by its name.

import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import ts from 'typescript';

export interface Example {
  /** Line of the page at which its code begins. */
  line: number;
  /** The heading above it. */
  heading: string;
  code: string;
  /** What the page says it prints: the text block that follows. null: the page does not say. */
  expected: string | null;
  /** The language and what else stands after the fence. */
  info: string;
}

/** Code blocks of a page that are TypeScript. */
export function examplesOf(page: string): Example[] {
  const examples: Example[] = [];
  let heading = '';
  let open: { line: number; info: string; lines: string[] } | null = null;
  for (const [i, line] of page.split('\n').entries()) {
    if (open !== null) {
      if (line !== '```') open.lines.push(line);
      else {
        const text = `${open.lines.join('\n')}\n`;
        const { info } = open;
        if (info.startsWith('ts')) examples.push({ line: open.line, heading, code: text, expected: null, info });
        else if (info === 'text' && examples.length > 0) examples.at(-1)!.expected ??= text;
        open = null;
      }
    } else if (line.startsWith('```')) open = { line: i + 2, info: line.slice(3), lines: [] };
    else if (line.startsWith('#')) heading = line.replace(/^#+ /, '');
  }
  return examples;
}

const root = fileURLToPath(new URL('../../', import.meta.url));

/** A folder inside the package, where its name leads to its own build; gone after `use`. */
async function withFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  await mkdir(join(root, 'build'), { recursive: true });
  const folder = await mkdtemp(join(root, 'build/examples-'));
  try {
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const options: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2022,
  lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  types: ['node'],
  strict: true,
  skipLibCheck: true,
};

/** What the compiler says against the examples, with the examples' names. */
export function typeErrors(codes: Readonly<Record<string, string>>): Promise<string[]> {
  return withFolder(async (folder) => {
    const files = Object.entries(codes).map(([name, code]) => ({ file: join(folder, `${name}.mts`), code }));
    for (const { file, code } of files) await writeFile(file, code);
    const program = ts.createProgram(
      files.map(({ file }) => file),
      { ...options, noEmit: true },
    );
    return ts
      .getPreEmitDiagnostics(program)
      .map(({ file, messageText }) => `${file?.fileName ?? ''}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`);
  });
}

/** What each example prints; one process runs them one after the other. */
export function runExamples(codes: Readonly<Record<string, string>>): Promise<Record<string, string>> {
  return withFolder(async (folder) => {
    const names = Object.keys(codes);
    for (const name of names) {
      const emitted = { ...options, module: ts.ModuleKind.ESNext };
      const { outputText } = ts.transpileModule(codes[name]!, { compilerOptions: emitted });
      await writeFile(join(folder, `${name}.mjs`), outputText);
    }
    await writeFile(join(folder, 'run.mjs'), runner(names));
    const { stdout } = await promisify(execFile)(process.execPath, [join(folder, 'run.mjs')], { cwd: root });
    return JSON.parse(stdout) as Record<string, string>;
  });
}

/** Imports one example after the other and keeps apart what they print. */
function runner(names: readonly string[]): string {
  return `
const write = process.stdout.write.bind(process.stdout);
const printed = {};
for (const name of ${JSON.stringify(names)}) {
  printed[name] = '';
  process.stdout.write = (text) => {
    printed[name] += text;
    return true;
  };
  try {
    await import('./' + name + '.mjs');
  } catch (error) {
    printed[name] += 'threw ' + error.stack;
  }
}
process.stdout.write = write;
write(JSON.stringify(printed));
`;
}
