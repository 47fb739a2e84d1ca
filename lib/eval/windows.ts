// A text as windows of tokens: what perplexity and agreement are measured on.

import type { Engine } from '../engine/engine.ts';
import { SwiftKVError } from '../errors.ts';

export interface Window {
  tokenIds: number[];
  /** Index of the first token that counts; those before it are context only. At least 1. */
  from: number;
  /** Which document, and where in it the window starts, in tokens. */
  document: number;
  start: number;
}

export interface WindowOptions {
  /** Tokens of a window. Default 512. */
  window?: number | undefined;
  /**
   * Tokens from one window's start to the next, at most `window` (the default). With a smaller one, windows overlap, and
   * a token counts in the first window that has it: more context each, more work.
   */
  stride?: number | undefined;
  /** A line that parts documents, which are scored apart. Default `<|end_of_text|>`. */
  separator?: string | undefined;
  /** Windows to make at most, from the first on: what comes after them is not even tokenized. */
  maxWindows?: number | undefined;
}

export const windowDefaults = { window: 512, separator: '<|end_of_text|>' } as const;

/**
 * The windows of a text, each document encoded by itself with what the tokenizer adds (usually a BOS). A document's last
 * window may be shorter; one with nothing to score is left out.
 * @throws ERR_INVALID_ARGUMENT, ERR_NO_TOKENIZER
 */
export async function textWindows(engine: Engine, text: string, options: WindowOptions = {}): Promise<Window[]> {
  const { window = windowDefaults.window, stride = window, separator = windowDefaults.separator } = options;
  const { maxWindows = Number.POSITIVE_INFINITY } = options;
  if (window < 2 || stride < 1 || stride > window) {
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `Expected a window of at least 2 tokens and a stride of 1 to the window but received ${window} and ${stride}`,
    );
  }
  const documents = text.split(/\r?\n/).reduce<string[][]>(
    (parts, line) => {
      if (line === separator) parts.push([]);
      else parts.at(-1)!.push(line);
      return parts;
    },
    [[]],
  );
  const windows: Window[] = [];
  for (const [document, lines] of documents.entries()) {
    if (windows.length >= maxWindows) break;
    const ids = await engine.tokenize(lines.join('\n'));
    windows.push(...windowsOf(ids, window, stride).map((part) => ({ ...part, document })));
  }
  return windows.slice(0, maxWindows);
}

/** Windows of `window` tokens, `stride` apart, until the end has been in one. */
export function windowsOf(ids: readonly number[], window: number, stride: number): Omit<Window, 'document'>[] {
  const windows: Omit<Window, 'document'>[] = [];
  for (let start = 0, counted = 0; counted < ids.length; start += stride) {
    const tokenIds = ids.slice(start, start + window);
    const from = Math.max(1, counted - start);
    if (from < tokenIds.length) windows.push({ tokenIds, from, start });
    counted = start + tokenIds.length;
  }
  return windows;
}
