// PTX text as tokens with their lines.

import { PtxError } from './syntax.ts';

export interface Token {
  readonly text: string;
  readonly line: number;
}

const pattern = new RegExp(
  [
    String.raw`(?<space>[ \t\r]+|//[^\n]*|/\*[\s\S]*?\*/)`,
    String.raw`(?<newline>\n)`,
    String.raw`(?<string>"[^"\n]*")`,
    `(?<number>0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16}|0[xX][0-9a-fA-F]+U?|[0-9]+U?)`,
    // `::` joins qualifiers such as shared::cluster, a single colon ends a label. A dot begins a directive or, after a
    // name, its next word.
    String.raw`(?<name>[.%$_a-zA-Z][\w$.%]*(?:::[\w.]+)*)`,
    String.raw`(?<mark>[{}()[\],;:@!+|=<>-])`,
  ].join('|'),
  'gy',
);

export function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  let line = 1;
  pattern.lastIndex = 0;
  while (pattern.lastIndex < text.length) {
    const at = pattern.lastIndex;
    const match = pattern.exec(text);
    if (match === null) throw new PtxError(`cannot read ${JSON.stringify(text.slice(at, at + 20))}`, line);
    const groups = match.groups!;
    if (groups['newline'] !== undefined) {
      line++;
    } else if (groups['space'] !== undefined) {
      line += match[0].split('\n').length - 1;
    } else {
      tokens.push({ text: match[0], line });
    }
  }
  return tokens;
}
