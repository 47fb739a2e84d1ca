import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inlineEncodeLength, loadTokenizer } from '../../lib/tokenizer/load.ts';
import type { ChatMessage, Tokenizer } from '../../lib/tokenizer/tokenizer.ts';

const base = fileURLToPath(new URL('../../models/base', import.meta.url));

/** Ids and rendered chats from the reference implementation (transformers 5.18, tokenizers 0.23). */
const oracle = JSON.parse(readFileSync(new URL('oracle.json', import.meta.url), 'utf8')) as {
  encode: { text: string; ids: number[]; plain: number[] }[];
  chat: { messages: ChatMessage[]; text: string; ids: number[] }[];
};

let tokenizer: Tokenizer;

beforeAll(async () => {
  const loaded = await loadTokenizer([base]);
  if (loaded === null) throw new Error(`no tokenizer in ${base}`);
  tokenizer = loaded;
});

afterAll(() => tokenizer.dispose());

describe('against the reference implementation', () => {
  it.each(oracle.encode)('encodes $text', async ({ text, ids, plain }) => {
    expect([...(await tokenizer.encode(text, { addSpecialTokens: false }))]).toEqual(plain);
    const doubledBos = ids[0] === 0 && ids[1] === 0;
    expect([...(await tokenizer.encode(text))]).toEqual(doubledBos ? ids.slice(1) : ids);
  });

  it.each(oracle.chat)('renders and encodes a chat without a second BOS', async ({ messages, text, ids }) => {
    expect(await tokenizer.renderChat(messages)).toBe(text);
    expect([...(await tokenizer.encode(text, { addSpecialTokens: false }))]).toEqual(ids);
  });
});

describe('long texts', () => {
  it('gives the same ids on the worker thread as on this one, whatever their order', async () => {
    const piece = 'The harbour of Mondur is called Telot, and its code is 4821. ';
    const short = piece.repeat(Math.floor(inlineEncodeLength / piece.length));
    const long = short + piece;
    const [a, b] = await Promise.all([tokenizer.encode(long), tokenizer.encode(short)]);
    const tail = await tokenizer.encode(piece, { addSpecialTokens: false });
    expect(a.length).toBeGreaterThan(b.length);
    expect([...a.subarray(0, b.length - 1)]).toEqual([...b.subarray(0, b.length - 1)]);
    expect(tokenizer.decode(a)).toBe(long);
    expect(tail.length).toBeGreaterThan(0);
  });

  it('keeps the event loop free while it tokenizes', async () => {
    const text = 'One more sentence about nothing in particular, with 42 numbers. '.repeat(20_000);
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    const ids = await tokenizer.encode(text);
    clearInterval(timer);
    expect(ids.length).toBeGreaterThan(100_000);
    expect(ticks).toBeGreaterThan(5);
  });

  it('is a lower bound of the length that minTokens gives', async () => {
    for (const text of ['', 'a', 'hello world', ' '.repeat(500), 'aaaa'.repeat(99)]) {
      const ids = await tokenizer.encode(text, { addSpecialTokens: false });
      expect(tokenizer.minTokens(text)).toBeLessThanOrEqual(ids.length);
    }
    expect(tokenizer.minTokens('x'.repeat(40_000_000))).toBeGreaterThan(100_000);
  });

  it('rejects what waits when it is disposed of, and starts again on demand', async () => {
    const other = await loadTokenizer([base]);
    const pending = other!.encode('word '.repeat(100_000));
    const settled = expect(pending).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    await other!.dispose();
    await settled;
    await other!.dispose();
  });
});

describe('hostile text', () => {
  it('turns a lone surrogate into U+FFFD', async () => {
    const ids = await tokenizer.encode('a\ud800b', { addSpecialTokens: false });
    expect(tokenizer.decode(ids)).toBe('a\ufffdb');
  });
});

describe('streaming decoder', () => {
  const anyText = fc.string({ unit: 'binary', maxLength: 60 });

  it('round-trips any text, and never emits half a character', async () => {
    await fc.assert(
      fc.asyncProperty(anyText, async (text) => {
        const ids = await tokenizer.encode(text, { addSpecialTokens: false });
        const decoder = tokenizer.streamDecoder({ skipSpecialTokens: false });
        let streamed = '';
        for (const id of ids) {
          const part = decoder.push(id);
          expect(part.isWellFormed?.() ?? true).toBe(true);
          if (!text.includes('\ufffd')) expect(part).not.toContain('\ufffd');
          streamed += part;
        }
        streamed += decoder.end();
        expect(streamed).toBe(text.toWellFormed());
        expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(streamed);
      }),
      { numRuns: 300 },
    );
  });

  it('gives the same text as decode for any ids, valid UTF-8 or not', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 4095 }), { maxLength: 40 }), (ids) => {
        const decoder = tokenizer.streamDecoder();
        const streamed = ids.map((id) => decoder.push(id)).join('') + decoder.end();
        expect(streamed).toBe(tokenizer.decode(ids));
      }),
    );
  });

  it('ends an unfinished character with U+FFFD', async () => {
    const ids = await tokenizer.encode('語', { addSpecialTokens: false });
    expect(ids.length).toBeGreaterThan(1);
    const decoder = tokenizer.streamDecoder();
    expect(decoder.push(ids[0]!)).toBe('');
    expect(decoder.end()).toBe('\ufffd');
  });

  it('leaves special tokens out unless asked', () => {
    expect(tokenizer.decode([0, 1, 6])).toBe('');
    expect(tokenizer.decode([0, 6], { skipSpecialTokens: false })).toBe('<|begin_of_text|><|end|>');
  });
});

describe('a SentencePiece style vocabulary', () => {
  let folder: string;
  let llama2: Tokenizer;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'swiftkv-tokenizer-'));
    await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(sentencePieceStyle()));
    llama2 = (await loadTokenizer([folder]))!;
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('streams what it decodes, with spaces between words and bytes joined to characters', async () => {
    for (const text of ['hello world', 'é', 'hello 語 world', 'a  b']) {
      const ids = await llama2.encode(text);
      const decoder = llama2.streamDecoder();
      const parts = [...ids].map((id) => decoder.push(id));
      expect(parts.join('') + decoder.end()).toBe(text);
      for (const part of parts) expect(part).not.toContain('\ufffd');
    }
  });

  it('does not hold an endless run of broken bytes back', () => {
    const decoder = llama2.streamDecoder();
    const lone = 3 + 0x80; // a continuation byte that never continues anything
    let text = '';
    for (let i = 0; i < 100; i++) text += decoder.push(lone);
    expect(text.length).toBeGreaterThan(90);
  });
});

describe('folders', () => {
  it('has no tokenizer where there is no tokenizer.json', async () => {
    expect(await loadTokenizer([join(tmpdir(), 'swiftkv-no-such-folder')])).toBeNull();
  });

  it('names a damaged tokenizer.json and a missing chat template', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'swiftkv-tokenizer-'));
    await writeFile(join(folder, 'tokenizer.json'), '{"model":');
    await expect(loadTokenizer([folder])).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
    await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(sentencePieceStyle()));
    const bare = await loadTokenizer([folder]);
    expect(bare!.hasChatTemplate).toBe(false);
    await expect(bare!.renderChat([{ role: 'user', content: 'hi' }])).rejects.toThrow(/no chat template/);
    await writeFile(join(folder, 'chat_template.jinja'), '{{ raise_exception("only " + messages[0].role) }}');
    const failing = await loadTokenizer([folder]);
    await expect(failing!.renderChat([{ role: 'user', content: 'hi' }])).rejects.toThrow(/only user/);
    await failing!.dispose();
    await rm(folder, { recursive: true });
  });
});

/** Bytes at ids 3..258, then letters and a few merges: the shape of Llama 2's tokenizer.json. */
function sentencePieceStyle(): object {
  const vocab: Record<string, number> = { '<unk>': 0, '<s>': 1, '</s>': 2 };
  for (let b = 0; b < 256; b++) vocab[`<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`] = 3 + b;
  for (const piece of [
    '▁',
    ...'abdehlorw',
    'he',
    'll',
    'hell',
    'hello',
    '▁hello',
    'wo',
    'rl',
    'worl',
    'world',
    '▁world',
  ]) {
    vocab[piece] ??= Object.keys(vocab).length;
  }
  return {
    version: '1.0',
    added_tokens: [
      { id: 1, content: '<s>', special: true, normalized: false, single_word: false, lstrip: false, rstrip: false },
      { id: 2, content: '</s>', special: true, normalized: false, single_word: false, lstrip: false, rstrip: false },
    ],
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
      special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
    },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      unk_token: '<unk>',
      fuse_unk: true,
      byte_fallback: true,
      vocab,
      merges: ['h e', 'l l', 'he ll', 'hell o', '▁ hello', 'w o', 'r l', 'wo rl', 'worl d', '▁ world'],
    },
  };
}
