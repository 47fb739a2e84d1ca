// The lists and sizes that benchmark options take.

import { InvalidArgumentError, Option } from 'commander';
import { byteSize } from '../model-options.ts';

export function nameList(text: string): string[] {
  const names = text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  if (names.length === 0) throw new InvalidArgumentError('Expected names separated by commas.');
  return [...new Set(names)];
}

/** Integers from `min`, e.g. 128,512,2048. */
export function integerList(min: number): (text: string) => number[] {
  return (text) => {
    const parts = nameList(text);
    if (!parts.every((part) => /^\d+$/.test(part) && Number(part) >= min && Number.isSafeInteger(Number(part)))) {
      throw new InvalidArgumentError(`Expected integers >= ${min} separated by commas.`);
    }
    return parts.map(Number);
  };
}

export function choiceList<T extends string>(choices: readonly T[]): (text: string) => T[] {
  return (text) => {
    const names = nameList(text);
    const wrong = names.find((name) => !(choices as readonly string[]).includes(name));
    if (wrong !== undefined) {
      throw new InvalidArgumentError(`Expected some of ${choices.join(', ')} but received ${wrong}.`);
    }
    return names as T[];
  };
}

/** Shows its default as it would be written. */
export function listOption<T>(
  flags: string,
  description: string,
  parse: (text: string) => T[],
  values: readonly T[],
): Option {
  return new Option(flags, description).argParser(parse).default([...values], values.join(','));
}

/** @param text the default as it would be written */
export function sizeOption(flags: string, description: string, text: string): Option {
  return new Option(flags, description).argParser(byteSize).default(byteSize(text), text);
}
