// Training files as documents: text files, and JSONL of texts, of prompts with answers, of conversations, or of segments
// with the answers marked. Whatever is wrong with a line names its file, its number and the mend.

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { decodeUtf8, isJsonObject, quote } from '../../checkpoint/json.ts';
import { SwiftKVError } from '../../errors.ts';
import type { ChatMessage } from '../../tokenizer/tokenizer.ts';

/** A part of a document's text; answers are what a model is to learn to say. */
export interface Segment {
  text: string;
  answer: boolean;
}

export interface SourceDocument {
  /** `file:line`, for messages. */
  where: string;
  /** A plain text has none: all of it counts. */
  segments: readonly Segment[];
  /** In place of segments: a conversation, whose answers are the assistant's turns. */
  messages: readonly ChatMessage[] | null;
  /** Whether the text is to be followed by the end of the document, and whether that is part of the last answer. */
  end: 'text' | 'answer';
}

export interface SourceFile {
  file: string;
  /** Of the file's bytes. */
  sha256: string;
  documents: SourceDocument[];
}

/** The line that parts documents of a text file. */
export const documentSeparator = '<|end_of_text|>';

const forms =
  '{"text"}, {"prompt", "answer"}, {"messages": [{"role", "content"}, ...]} or {"segments": [{"text", "answer"}, ...]}';

/** @throws ERR_IO, ERR_INVALID_ARGUMENT with file and line */
export async function readDocuments(file: string): Promise<SourceFile> {
  const extension = extname(file).toLowerCase();
  if (extension !== '.txt' && extension !== '.jsonl') {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', `${file}: expected a .txt or .jsonl file of training data`);
  }
  const bytes = await readFile(file).catch((error: Error) => {
    throw new SwiftKVError('ERR_IO', `Reading ${file} failed: ${error.message}`, { cause: error });
  });
  const documents = extension === '.txt' ? textDocuments(file, bytes) : [...jsonDocuments(file, bytes)];
  if (documents.length === 0) {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', `${file} has no documents; expected lines of ${forms}, or text`);
  }
  return { file, sha256: createHash('sha256').update(bytes).digest('hex'), documents };
}

function textDocuments(file: string, bytes: Buffer): SourceDocument[] {
  const documents: SourceDocument[] = [];
  let [lines, from] = [[] as string[], 1];
  const close = (line: number) => {
    const text = lines.join('\n').trim();
    if (text !== '') documents.push(plainText(`${file}:${from}`, text));
    [lines, from] = [[], line + 1];
  };
  let last = 0;
  for (const [number, line] of linesOf(file, bytes)) {
    if (line.trim() === documentSeparator) close(number);
    else lines.push(line);
    last = number;
  }
  close(last);
  return documents;
}

function plainText(where: string, text: string): SourceDocument {
  return { where, segments: [{ text, answer: false }], messages: null, end: 'text' };
}

function* jsonDocuments(file: string, bytes: Buffer): Generator<SourceDocument> {
  for (const [number, line] of linesOf(file, bytes)) {
    if (line.trim() === '') continue;
    const where = `${file}:${number}`;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (error) {
      throw bad(where, `not JSON (${(error as Error).message}); mend or remove the line`);
    }
    if (!isJsonObject(value)) throw bad(where, `expected one of ${forms} but received ${short(value)}`);
    yield documentOf(value, where);
  }
}

/** Numbered lines, without their ends. JSON may hold other line separators of Unicode, so only \n parts lines. */
function* linesOf(file: string, bytes: Buffer): Generator<[number: number, line: string]> {
  for (let at = 0, number = 1; at < bytes.length; number++) {
    const next = bytes.indexOf(0x0a, at);
    const end = next === -1 ? bytes.length : next;
    const line = bytes.subarray(at, bytes[end - 1] === 0x0d && end > at ? end - 1 : end);
    try {
      yield [number, decodeUtf8(number === 1 ? withoutMark(line) : line)];
    } catch (error) {
      if (SwiftKVError.is(error)) throw error;
      throw bad(`${file}:${number}`, 'not UTF-8; save the file in UTF-8, or remove the line');
    }
    at = end + 1;
  }
}

/** Some editors begin a file with a byte order mark, which no document wants. */
function withoutMark(line: Buffer): Buffer {
  return line[0] === 0xef && line[1] === 0xbb && line[2] === 0xbf ? line.subarray(3) : line;
}

function documentOf(value: Record<string, unknown>, where: string): SourceDocument {
  const present = ['text', 'prompt', 'messages', 'segments'].filter((field) => value[field] !== undefined);
  if (present.length !== 1) {
    throw bad(where, `expected one of ${forms} but the line has ${present.join(' and ') || 'none of these fields'}`);
  }
  switch (present[0]) {
    case 'text':
      return plainText(where, textField(value, 'text', where));
    case 'prompt':
      return promptAndAnswer(value, where);
    case 'messages':
      return { where, segments: [], messages: messagesOf(value['messages'], where), end: 'answer' };
    default:
      return { where, segments: segmentsOf(value['segments'], where), messages: null, end: 'text' };
  }
}

/** `stop`, as evaluation items have it, ends the answer: a model learns to say it too. */
function promptAndAnswer(value: Record<string, unknown>, where: string): SourceDocument {
  const stop = value['stop'] === undefined || value['stop'] === null ? '' : textField(value, 'stop', where);
  const segments = [
    { text: textField(value, 'prompt', where), answer: false },
    { text: textField(value, 'answer', where) + stop, answer: true },
  ];
  return { where, segments, messages: null, end: 'answer' };
}

function messagesOf(value: unknown, where: string): ChatMessage[] {
  const isMessage = (m: unknown) =>
    isJsonObject(m) &&
    typeof m['role'] === 'string' &&
    (typeof m['content'] === 'string' || (m['content'] === null && Array.isArray(m['tool_calls'])));
  const wrong = Array.isArray(value) ? value.find((message) => !isMessage(message)) : value;
  if (wrong !== undefined) {
    throw bad(where, `expected messages to be a list of {"role", "content"} with texts but received ${short(wrong)}`);
  }
  const messages = value as ChatMessage[];
  if (!messages.some(({ role }) => role === 'assistant')) {
    throw bad(where, 'expected at least one message with the role "assistant": only those are learned');
  }
  return messages;
}

/** `{text, answer?}` or `{text, target?}`, or `[text, isAnswer]`; at least one answer, else nothing is learned. */
function segmentsOf(value: unknown, where: string): Segment[] {
  const refuse = (received: unknown): never => {
    throw bad(
      where,
      `expected segments to be a list of {"text": "...", "answer": true or false} or ["...", true or false] ` +
        `but received ${short(received)}`,
    );
  };
  if (!Array.isArray(value) || value.length === 0) return refuse(value);
  const segments = value.map((item: unknown) => {
    const [text, answer] = Array.isArray(item)
      ? [item[0], item[1]]
      : isJsonObject(item)
        ? [item['text'], item['answer'] ?? item['target']]
        : refuse(item);
    if (typeof text !== 'string' || (answer !== undefined && typeof answer !== 'boolean')) return refuse(item);
    return { text, answer: answer === true };
  });
  if (!segments.some(({ text, answer }) => answer && text !== '')) {
    throw bad(where, 'expected at least one segment to be an answer; give a plain text as {"text"}');
  }
  return segments;
}

function textField(item: Record<string, unknown>, name: string, where: string): string {
  const value = item[name];
  if (typeof value === 'string' && value !== '') return value;
  throw bad(where, `expected a text that is not empty for ${name} but received ${short(value)}`);
}

function short(value: unknown): string {
  const text = quote(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

function bad(where: string, fault: string): SwiftKVError {
  return new SwiftKVError('ERR_INVALID_ARGUMENT', `${where}: ${fault}`);
}
