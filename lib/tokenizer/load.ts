// Reads a model folder's tokenizer files and puts the parts together.

import { join } from 'node:path';
import { fileExists, readSmallFile } from '../checkpoint/files.ts';
import { decodeUtf8, isJsonObject, parseJsonObject, quote } from '../checkpoint/json.ts';
import { SwiftKVError } from '../errors.ts';
import { ChatTemplate } from './chat-template.ts';
import { EncodeWorker } from './encode-worker.ts';
import { ByteLevelTable, WindowStreamDecoder } from './stream-decoder.ts';
import type { DecodeOptions, EncodeOptions, StreamDecoder, Tokenizer } from './tokenizer.ts';
import { type TokenizerConfigJson, tokenText, Vocabulary } from './vocabulary.ts';

/** Texts up to this length (UTF-16 units; about 4,000 tokens, 15 ms) are tokenized on the calling thread. */
export const inlineEncodeLength = 16_384;

/**
 * The tokenizer of a model.
 * @param folders searched in order: the model's own folder, then its base's
 * @returns null when no folder has a tokenizer.json
 * @throws SwiftKVError ERR_MODEL_INVALID, ERR_MODEL_UNSUPPORTED, ERR_IO
 */
export async function loadTokenizer(folders: readonly string[]): Promise<Tokenizer | null> {
  for (const folder of folders) {
    const path = join(folder, 'tokenizer.json');
    const bytes = await readIfThere(path);
    if (bytes === null) continue;
    const configPath = join(folder, 'tokenizer_config.json');
    const configBytes = await readIfThere(configPath);
    const config = (configBytes === null ? {} : parseJsonObject(configBytes, configPath)) as TokenizerConfigJson;
    const vocabulary = new Vocabulary(parseJsonObject(bytes, path), config, folder);
    const tokenizerJson = decodeUtf8(bytes);
    const template = await findChatTemplate(folder, config);
    return assemble(vocabulary, template, { tokenizerJson, config, where: folder });
  }
  return null;
}

function assemble(
  vocabulary: Vocabulary,
  template: ChatTemplate | null,
  data: { tokenizerJson: string; config: TokenizerConfigJson; where: string },
): Tokenizer {
  const worker = new EncodeWorker(data);
  const byteLevel = vocabulary.isByteLevel ? new ByteLevelTable(vocabulary) : null;
  const tokens = { bosToken: tokenText(data.config.bos_token), eosToken: tokenText(data.config.eos_token) };

  const streamDecoder = (options?: DecodeOptions): StreamDecoder =>
    byteLevel?.streamDecoder(options) ?? new WindowStreamDecoder(vocabulary, options);

  return {
    async encode(text: string, options?: EncodeOptions) {
      const addSpecialTokens = options?.addSpecialTokens ?? true;
      if (text.length <= inlineEncodeLength) return vocabulary.encode(text, addSpecialTokens);
      return worker.encode(text, addSpecialTokens);
    },
    minTokens: (text) => (vocabulary.maxTokenLength === 0 ? 0 : Math.ceil(text.length / vocabulary.maxTokenLength)),
    decode(ids, options) {
      if (byteLevel === null) return vocabulary.decode([...ids], options?.skipSpecialTokens ?? true);
      const decoder = byteLevel.streamDecoder(options);
      let text = '';
      for (const id of ids) text += decoder.push(id);
      return text + decoder.end();
    },
    byteLength: (id) => byteLevel?.byteLength(id) ?? null,
    streamDecoder,
    hasChatTemplate: template !== null,
    async renderChat(messages, options) {
      if (template === null) {
        throw new SwiftKVError(
          'ERR_CHAT_TEMPLATE',
          `The model in ${data.where} has no chat template (neither chat_template.jinja nor tokenizer_config.json has one). ` +
            'Pass `prompt` instead of `messages`.',
        );
      }
      return template.render(messages, tokens, options?.generationPrompt ?? true);
    },
    get numWorkers() {
      return Number(worker.running) + Number(template?.running ?? false);
    },
    async dispose() {
      await Promise.all([worker.dispose(), template?.dispose()]);
    },
  };
}

async function findChatTemplate(folder: string, config: TokenizerConfigJson): Promise<ChatTemplate | null> {
  const path = join(folder, 'chat_template.jinja');
  const file = await readIfThere(path);
  if (file !== null) return new ChatTemplate(utf8(file, path), folder);
  const entry: unknown = config.chat_template;
  if (entry === undefined || entry === null) return null;
  if (typeof entry === 'string') return new ChatTemplate(entry, folder);
  const named: unknown[] = Array.isArray(entry) ? entry : [entry];
  if (!named.every(isNamedTemplate)) {
    throw new SwiftKVError(
      'ERR_MODEL_INVALID',
      `${join(folder, 'tokenizer_config.json')}: expected chat_template to be a text or a list of ` +
        `{ name, template } but received ${quote(entry)}; mend it, or put the template into chat_template.jinja`,
    );
  }
  const chosen = named.find((t) => t.name === 'default') ?? named[0];
  return chosen === undefined ? null : new ChatTemplate(chosen.template, folder);
}

function isNamedTemplate(value: unknown): value is { name: string; template: string } {
  return isJsonObject(value) && typeof value['name'] === 'string' && typeof value['template'] === 'string';
}

async function readIfThere(path: string): Promise<Uint8Array | null> {
  return (await fileExists(path)) ? readSmallFile(path, 'ERR_MODEL_NOT_FOUND') : null;
}

function utf8(bytes: Uint8Array, path: string): string {
  try {
    return decodeUtf8(bytes);
  } catch (error) {
    throw new SwiftKVError('ERR_MODEL_INVALID', `${path}: expected a text in UTF-8; is the file complete?`, {
      cause: error,
    });
  }
}
