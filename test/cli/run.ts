// Runs the built command as a user would, in a process of its own.

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export interface Run {
  code: number | null;
  stdout: string;
  stderr: string;
}

const dist = (file: string) => fileURLToPath(new URL(`../../dist/cli/${file}`, import.meta.url));

export function swiftkv(args: readonly string[], input?: string): Promise<Run> {
  return node([dist('main.js'), ...args], input);
}

export function demo(args: readonly string[]): Promise<Run> {
  return node([dist('demo.js'), ...args]);
}

/** Runs the command, or the demonstration, with nobody reading its output. */
export function unread(file: 'main.js' | 'demo.js', args: readonly string[]): Promise<Omit<Run, 'stdout'>> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [dist(file), ...args], { stdio: 'pipe' });
    let stderr = '';
    child.stdout.destroy();
    child.stderr.setEncoding('utf8').on('data', (chunk) => {
      stderr += chunk;
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stderr }));
  });
}

function node(args: readonly string[], input = ''): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { stdio: 'pipe' });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr.setEncoding('utf8').on('data', (chunk) => {
      stderr += chunk;
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
    child.stdin.end(input);
  });
}
