// Chat templates: Jinja, compiled once, rendered with what transformers gives them.

import { Template } from '@huggingface/jinja';
import { SwiftKVError } from '../errors.ts';
import type { ChatMessage } from './tokenizer.ts';

export interface ChatTemplateTokens {
  bosToken: string | null;
  eosToken: string | null;
}

export class ChatTemplate {
  private readonly source: string;
  private readonly where: string;
  private compiled: Template | null = null;

  /** @param where the file the template comes from, for messages */
  constructor(source: string, where: string) {
    this.source = source;
    this.where = where;
  }

  /** @throws SwiftKVError ERR_CHAT_TEMPLATE with the template's own complaint */
  render(messages: readonly ChatMessage[], tokens: ChatTemplateTokens): string {
    try {
      this.compiled ??= new Template(this.source);
      return this.compiled.render({
        messages: messages.map((m) => ({ role: m.role, content: m.content })),
        add_generation_prompt: true,
        bos_token: tokens.bosToken ?? '',
        eos_token: tokens.eosToken ?? '',
      });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new SwiftKVError(
        'ERR_CHAT_TEMPLATE',
        `The chat template of ${this.where} failed on ${messages.length} message(s): ${reason}. ` +
          'Check the roles and their order, or render the prompt yourself and pass it as `prompt`.',
        { cause: error },
      );
    }
  }
}
