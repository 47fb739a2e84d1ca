// Reads a model folder's tokenizer files and puts the parts together.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
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
    const tokenizerJson = await readIfThere(join(folder, 'tokenizer.json'));
    if (tokenizerJson === null) continue;
    const configText = await readIfThere(join(folder, 'tokenizer_config.json'));
    const config =
      configText === null ? {} : (parseObject(configText, folder, 'tokenizer_config.json') as TokenizerConfigJson);
    const vocabulary = new Vocabulary(parseObject(tokenizerJson, folder, 'tokenizer.json'), config, folder);
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
    streamDecoder,
    hasChatTemplate: template !== null,
    async renderChat(messages) {
      if (template === null) {
        throw new SwiftKVError(
          'ERR_CHAT_TEMPLATE',
          `The model in ${data.where} has no chat template (neither chat_template.jinja nor tokenizer_config.json has one). ` +
            'Pass `prompt` instead of `messages`.',
        );
      }
      return template.render(messages, tokens);
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
  const file = await readIfThere(join(folder, 'chat_template.jinja'));
  if (file !== null) return new ChatTemplate(file, folder);
  const entry = config.chat_template;
  if (typeof entry === 'string') return new ChatTemplate(entry, folder);
  if (Array.isArray(entry)) {
    const named = entry.find((t) => t.name === 'default') ?? entry[0];
    if (named) return new ChatTemplate(named.template, folder);
  }
  return null;
}

async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw new SwiftKVError('ERR_IO', `Reading ${path} failed: ${String(error)}`, { cause: error });
  }
}

function parseObject(text: string, folder: string, file: string): object {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new SwiftKVError('ERR_MODEL_INVALID', `${file} of ${folder} is not JSON: ${String(error)}`, { cause: error });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new SwiftKVError('ERR_MODEL_INVALID', `Expected ${file} of ${folder} to be a JSON object.`);
  }
  return value;
}
