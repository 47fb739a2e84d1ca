// Incremental detokenization. Byte-level vocabularies (Llama 3, GPT-2, Qwen) decode exactly, byte by byte; others
// (SentencePiece style) go through the library's decoder over a short window.

import type { DecodeOptions, StreamDecoder } from './tokenizer.ts';

/** The 256 printable characters that byte-level BPE writes bytes as. Source: GPT-2's bytes_to_unicode. */
function byteLevelAlphabet(): Map<string, number> {
  const alphabet = new Map<string, number>();
  let extra = 0;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    alphabet.set(String.fromCodePoint(printable ? byte : 256 + extra++), byte);
  }
  return alphabet;
}

const alphabet = byteLevelAlphabet();

/** Bytes of one vocabulary entry of a byte-level BPE, or null when it is not written in that alphabet. */
export function byteLevelBytes(token: string): Uint8Array | null {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = alphabet.get(character);
    if (byte === undefined) return null;
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

const nothing = new Uint8Array(0);

/** What a decoder must know of a vocabulary. */
export interface DecodeVocabulary {
  /** The entry's text as stored in the vocabulary, or undefined for an unknown id. */
  token(id: number): string | undefined;
  /** Added tokens are stored as plain text; special ones are left out of the output on request. */
  added(id: number): { content: string; special: boolean } | undefined;
  /** The library's decoder for a run of ids. */
  decode(ids: number[], skipSpecialTokens: boolean): string;
}

/** Exact: ids are bytes, and UTF-8 is decoded as a stream. The byte table is filled as ids occur. */
export class ByteLevelTable {
  private readonly bytes = new Map<number, Uint8Array>();
  private readonly vocabulary: DecodeVocabulary;

  constructor(vocabulary: DecodeVocabulary) {
    this.vocabulary = vocabulary;
  }

  streamDecoder(options?: DecodeOptions): StreamDecoder {
    const skip = options?.skipSpecialTokens ?? true;
    const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
    const stream = { stream: true };
    return {
      push: (id) => {
        if (skip && this.vocabulary.added(id)?.special) return '';
        return utf8.decode(this.bytesOf(id), stream);
      },
      end: () => utf8.decode(),
    };
  }

  byteLength(id: number): number {
    return this.bytesOf(id).length;
  }

  private bytesOf(id: number): Uint8Array {
    let bytes = this.bytes.get(id);
    if (bytes === undefined) {
      const added = this.vocabulary.added(id);
      const token = added?.content ?? this.vocabulary.token(id);
      if (token === undefined) bytes = nothing;
      else bytes = (added ? null : byteLevelBytes(token)) ?? new TextEncoder().encode(token);
      this.bytes.set(id, bytes);
    }
    return bytes;
  }
}

/** A UTF-8 character has at most 4 bytes: more byte tokens than that without an end were never one character. */
const maxHeldIds = 4;

/**
 * For vocabularies whose decoder looks at neighbours: decodes a window that starts at the last emitted id, so that the
 * library sees the context it needs, and emits the difference once it does not end in an unfinished character.
 */
export class WindowStreamDecoder implements StreamDecoder {
  private readonly vocabulary: DecodeVocabulary;
  private readonly skip: boolean;
  private ids: number[] = [];
  /** How many ids of the window have been emitted, and their text. */
  private emitted = 0;
  private emittedText = '';

  constructor(vocabulary: DecodeVocabulary, options?: DecodeOptions) {
    this.vocabulary = vocabulary;
    this.skip = options?.skipSpecialTokens ?? true;
  }

  push(id: number): string {
    this.ids.push(id);
    const text = this.vocabulary.decode(this.ids, this.skip);
    const held = this.ids.length - this.emitted;
    if (text.endsWith('\ufffd') && held < maxHeldIds) return '';
    return this.emit(text);
  }

  end(): string {
    if (this.emitted === this.ids.length) return '';
    return this.emit(this.vocabulary.decode(this.ids, this.skip));
  }

  private emit(text: string): string {
    const fresh = text.slice(this.emittedText.length);
    this.ids = this.ids.slice(this.emitted);
    this.emitted = this.ids.length;
    this.emittedText = this.vocabulary.decode(this.ids, this.skip);
    return fresh;
  }
}
