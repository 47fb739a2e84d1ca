// Documents as token ids, with the tokens of answers marked.

import { SwiftKVError } from '../../errors.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import { readDocuments, type Segment, type SourceDocument } from './read-documents.ts';
import { cachePath, readCache, type TokenCache, writeCache } from './token-cache.ts';

/** The documents of a file, one after the other. */
export interface TokenDocuments {
  file: string;
  /** Of the file's bytes. */
  sha256: string;
  /** [tokens] */
  ids: Int32Array;
  /** [tokens] 1: of an answer. */
  answers: Uint8Array;
  /** [documents + 1] */
  starts: Int32Array;
  /** [documents] 1: some part is an answer, so the rest is context. A plain text is neither. */
  hasAnswers: Uint8Array;
}

export interface TokenizeOptions {
  /** The id that ends a document; null: none. */
  endId: number | null;
  /** Ids from here on are not the model's. */
  vocabSize: number;
  /** Where tokens are kept from one run to the next; default: nowhere. */
  cache?: TokenCache | undefined;
  /** Hears of the documents that are done. */
  onProgress?: ((documents: number, total: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** @throws ERR_IO, ERR_INVALID_ARGUMENT with file and line, ERR_CHAT_TEMPLATE, ERR_ABORTED */
export async function loadDocuments(
  file: string,
  tokenizer: Tokenizer,
  options: TokenizeOptions,
): Promise<TokenDocuments> {
  const { sha256, documents } = await readDocuments(file);
  const kept = options.cache && (await cachePath(options.cache, sha256, options));
  const cached = kept === undefined ? null : await readCache(kept);
  if (cached !== null) return { file, sha256, ...cached };
  const encoder = await DocumentEncoder.create(tokenizer, options);
  const [ids, answers]: [Int32Array[], Uint8Array[]] = [[], []];
  const starts = new Int32Array(documents.length + 1);
  const hasAnswers = new Uint8Array(documents.length);
  for (const [i, document] of documents.entries()) {
    if (options.signal?.aborted) {
      throw new SwiftKVError('ERR_ABORTED', 'Reading training data was stopped', { cause: options.signal.reason });
    }
    const encoded = await encoder.encode(document);
    ids.push(encoded.ids);
    answers.push(encoded.answers);
    starts[i + 1] = starts[i]! + encoded.ids.length;
    hasAnswers[i] = Number(document.end === 'answer' || document.segments.some(({ answer }) => answer));
    options.onProgress?.(i + 1, documents.length);
  }
  const arrays = { ids: concat(Int32Array, ids), answers: concat(Uint8Array, answers), starts, hasAnswers };
  if (kept !== undefined) await writeCache(kept, arrays);
  return { file, sha256, ...arrays };
}

export interface EncodedDocument {
  ids: Int32Array;
  answers: Uint8Array;
}

/** Encodes the whole text at once, so that ids are those that a prompt of that text has, and marks answers afterwards. */
export class DocumentEncoder {
  readonly #tokenizer: Tokenizer;
  readonly #options: TokenizeOptions;
  /** What the tokenizer puts before a text: usually a BOS. */
  readonly #prefix: Int32Array;

  private constructor(tokenizer: Tokenizer, options: TokenizeOptions, prefix: Int32Array) {
    this.#tokenizer = tokenizer;
    this.#options = options;
    this.#prefix = prefix;
  }

  static async create(tokenizer: Tokenizer, options: TokenizeOptions): Promise<DocumentEncoder> {
    const [framed, bare] = await Promise.all([
      tokenizer.encode('a'),
      tokenizer.encode('a', { addSpecialTokens: false }),
    ]);
    return new DocumentEncoder(tokenizer, options, framed.slice(0, Math.max(0, framed.indexOf(bare[0]!))));
  }

  async encode(document: SourceDocument): Promise<EncodedDocument> {
    const { where, messages } = document;
    const segments = messages === null ? document.segments : await this.#conversation(document);
    const text = segments.map((segment) => segment.text).join('');
    const body = await this.#tokenizer.encode(text, { addSpecialTokens: false });
    const wrong = body.find((id) => id >= this.#options.vocabSize);
    if (wrong !== undefined) {
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        `${where}: the tokenizer gives the id ${wrong}, but the model has ${this.#options.vocabSize}; use the tokenizer of the model`,
      );
    }
    const marks = new Uint8Array(body.length);
    if (segments.some(({ answer }) => answer)) await this.#mark(marks, body, text, segments);
    // A text that spells its BOS out, or a chat template's, has one already.
    const prefix = this.#prefix.every((id, i) => body[i] === id) ? new Int32Array(0) : this.#prefix;
    const { endId } = this.#options;
    const end = endId === null || body.at(-1) === endId ? [] : [endId];
    const ids = concat(Int32Array, [prefix, body, Int32Array.from(end)]);
    const answers = new Uint8Array(ids.length);
    answers.set(marks, prefix.length);
    // A conversation's own template has ended its last answer.
    if (document.end === 'answer' && messages === null && end.length > 0) answers[ids.length - 1] = 1;
    return { ids, answers };
  }

  /** The rendered conversation in pieces: what the template writes for assistants' turns is an answer. */
  async #conversation({ where, messages }: SourceDocument): Promise<Segment[]> {
    const render = (count: number, generationPrompt: boolean) =>
      this.#tokenizer.renderChat(messages!.slice(0, count), { generationPrompt });
    const text = await render(messages!.length, false);
    const segments: Segment[] = [];
    let done = 0;
    for (const [i, { role }] of messages!.entries()) {
      if (role !== 'assistant') continue;
      const before = await render(i, true);
      // The white space after a turn is not the assistant's.
      const after = (await render(i + 1, false)).trimEnd();
      if (
        !text.startsWith(before) ||
        !text.startsWith(after) ||
        after.length <= before.length ||
        before.length < done
      ) {
        throw new SwiftKVError(
          'ERR_CHAT_TEMPLATE',
          `${where}: the chat template writes message ${i} differently once others follow it, so its tokens cannot be ` +
            'told; give the rendered text as {"segments"}',
        );
      }
      segments.push({ text: text.slice(done, before.length), answer: false });
      segments.push({ text: text.slice(before.length, after.length), answer: true });
      done = after.length;
    }
    return [...segments, { text: text.slice(done), answer: false }];
  }

  /** A token belongs to the segment in which it begins. */
  async #mark(marks: Uint8Array, ids: Int32Array, text: string, segments: readonly Segment[]): Promise<void> {
    const begins = this.#byteOffsets(ids, text);
    let [from, bytes, token, done] = [0, 0, 0, 0];
    for (const { text: part, answer } of segments) {
      done += part.length;
      bytes += Buffer.byteLength(part);
      let end = ids.length;
      if (begins !== null) {
        end = token;
        while (end < ids.length && begins[end]! < bytes) end++;
      } else if (done < text.length) {
        end = await this.#commonTokens(ids, text.slice(0, done));
      }
      if (answer) marks.fill(1, from, end);
      from = end;
      token = end;
    }
  }

  /** Where each token begins in the text, in bytes; null where the ids are not exactly the text's bytes. */
  #byteOffsets(ids: Int32Array, text: string): Int32Array | null {
    const begins = new Int32Array(ids.length);
    let at = 0;
    for (const [i, id] of ids.entries()) {
      const length = this.#tokenizer.byteLength(id);
      if (length === null) return null;
      begins[i] = at;
      at += length;
    }
    return at === Buffer.byteLength(text) ? begins : null;
  }

  /** How many tokens of the whole text begin before the end of its `head`. */
  async #commonTokens(ids: Int32Array, head: string): Promise<number> {
    const own = await this.#tokenizer.encode(head, { addSpecialTokens: false });
    let common = 0;
    while (common < own.length && own[common] === ids[common]) common++;
    // A token that crosses the end begins before it.
    return common < own.length ? common + 1 : common;
  }
}

function concat<A extends Int32Array | Uint8Array>(make: new (length: number) => A, parts: readonly A[]): A {
  const whole = new make(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
