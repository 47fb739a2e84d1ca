// A tokenizer.json on the calling thread: the @huggingface/tokenizers library and the facts of it that we rely on.

import { Tokenizer as HfTokenizer } from '@huggingface/tokenizers';
import { isJsonObject, quote } from '../checkpoint/json.ts';
import { SwiftKVError } from '../errors.ts';
import type { DecodeVocabulary } from './stream-decoder.ts';

interface AddedTokenJson {
  id: number;
  content: string;
  special?: boolean;
}

interface TokenizerJson {
  added_tokens?: AddedTokenJson[];
  normalizer?: unknown;
  decoder?: { type?: string; decoders?: { type?: string }[] } | null;
  model?: { vocab?: Record<string, number> | [string, number][] };
}

export interface TokenizerConfigJson {
  bos_token?: string | { content: string } | null;
  eos_token?: string | { content: string } | null;
  chat_template?: string | { name: string; template: string }[] | null;
  [key: string]: unknown;
}

/** The text of a token entry in tokenizer_config.json, which may be a string or an object. */
export function tokenText(entry: string | { content: string } | null | undefined): string | null {
  if (entry === null || entry === undefined) return null;
  return typeof entry === 'string' ? entry : entry.content;
}

export class Vocabulary implements DecodeVocabulary {
  /** Longest entry in UTF-16 units; 0 when a normalizer may shorten texts, so that no bound holds. */
  readonly maxTokenLength: number;
  /** Whether ids are bytes: decoding is then exact and cheap. */
  readonly isByteLevel: boolean;
  readonly bosTokenId: number | null;
  private readonly where: string;
  private readonly hf: HfTokenizer;
  private readonly addedTokens = new Map<number, { content: string; special: boolean }>();

  /** @param where the folder, for messages */
  constructor(json: object, config: TokenizerConfigJson, where: string) {
    this.where = where;
    checkAddedTokens(json, where);
    checkVocab(json, where);
    checkSpecialTokens(config, where);
    try {
      this.hf = new HfTokenizer(json, config);
    } catch (error) {
      throw new SwiftKVError(
        'ERR_MODEL_UNSUPPORTED',
        `tokenizer.json of ${where} cannot be used (${reasonOf(error)}): it is damaged, or of a kind that is not ` +
          'supported; expected the file that the tokenizers library writes',
        { cause: error },
      );
    }
    const { added_tokens, decoder, normalizer, model } = json as TokenizerJson;
    let longest = 1;
    for (const t of added_tokens ?? []) {
      this.addedTokens.set(t.id, { content: t.content, special: t.special === true });
      longest = Math.max(longest, t.content.length);
    }
    const vocab = model?.vocab ?? {};
    for (const token of Array.isArray(vocab) ? vocab.map((entry) => entry[0]) : Object.keys(vocab)) {
      longest = Math.max(longest, token.length);
    }
    this.maxTokenLength = normalizer ? 0 : longest;
    this.isByteLevel = decoder?.type === 'ByteLevel' || (decoder?.decoders ?? []).some((d) => d.type === 'ByteLevel');
    const bos = tokenText(config.bos_token);
    this.bosTokenId = bos === null ? null : (this.hf.token_to_id(bos) ?? null);
  }

  /**
   * Ids of `text`; a BOS that the text already spells out is not doubled.
   * @throws SwiftKVError ERR_MODEL_INVALID where the tokenizer's own rules fail
   */
  encode(text: string, addSpecialTokens: boolean): Int32Array {
    const ids = this.attempt(() => this.hf.encode(toWellFormed(text), { add_special_tokens: addSpecialTokens }).ids);
    const doubled = ids.length > 1 && this.bosTokenId !== null && ids[0] === this.bosTokenId && ids[1] === ids[0];
    return Int32Array.from(doubled && addSpecialTokens ? ids.slice(1) : ids);
  }

  token(id: number): string | undefined {
    return this.hf.id_to_token(id);
  }

  added(id: number): { content: string; special: boolean } | undefined {
    return this.addedTokens.get(id);
  }

  decode(ids: number[], skipSpecialTokens: boolean): string {
    if (ids.length === 0) return '';
    const options = { skip_special_tokens: skipSpecialTokens, clean_up_tokenization_spaces: false };
    return this.attempt(() => this.hf.decode(ids, options));
  }

  /** The library finds some damage only when it works. */
  private attempt<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw new SwiftKVError(
        'ERR_MODEL_INVALID',
        `tokenizer.json of ${this.where} fails on a text (${reasonOf(error)}): it is damaged; get a whole copy of it`,
        { cause: error },
      );
    }
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function checkAddedTokens(json: object, where: string): void {
  const { added_tokens: tokens = [] } = json as { added_tokens?: unknown };
  const isToken = (t: unknown) => isJsonObject(t) && isId(t['id']) && typeof t['content'] === 'string';
  const wrong = Array.isArray(tokens) ? tokens.find((token) => !isToken(token)) : tokens;
  if (wrong === undefined) return;
  throw new SwiftKVError(
    'ERR_MODEL_INVALID',
    `tokenizer.json of ${where}: expected added_tokens to be a list of { id, content } but received ${quote(wrong)}`,
  );
}

function checkVocab(json: object, where: string): void {
  const { model = {} } = json as { model?: unknown };
  const vocab: unknown = isJsonObject(model) ? (model['vocab'] ?? {}) : model;
  const isScored = (entry: unknown) => Array.isArray(entry) && typeof entry[0] === 'string';
  const isVocab = Array.isArray(vocab)
    ? vocab.every(isScored)
    : isJsonObject(model) && isJsonObject(vocab) && Object.values(vocab).every(isId);
  if (isVocab) return;
  throw new SwiftKVError(
    'ERR_MODEL_INVALID',
    `tokenizer.json of ${where}: expected model.vocab to give each token a whole number, or to be a list of ` +
      `[token, score], but received ${quote(vocab)}`,
  );
}

function isId(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 31;
}

function checkSpecialTokens(config: TokenizerConfigJson, where: string): void {
  for (const key of ['bos_token', 'eos_token']) {
    const entry = config[key];
    if (entry === undefined || entry === null || typeof entry === 'string') continue;
    if (isJsonObject(entry) && typeof entry['content'] === 'string') continue;
    throw new SwiftKVError(
      'ERR_MODEL_INVALID',
      `tokenizer_config.json of ${where}: expected ${key} to be a text or an object with a content but received ` +
        quote(entry),
    );
  }
}

/** A lone surrogate has no UTF-8: it becomes U+FFFD, as TextEncoder does it. */
function toWellFormed(text: string): string {
  return text.toWellFormed();
}
