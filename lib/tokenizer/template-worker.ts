// The worker thread that renders a chat template. Started on first use, with the template's source as workerData.

import { parentPort, workerData } from 'node:worker_threads';
import type { ChatTemplateLimits } from './chat-template.ts';
import { boundThread, compileTemplate, type Render } from './template-limits.ts';
import type { ChatMessage } from './tokenizer.ts';

export interface TemplateWorkerData {
  source: string;
  limits: ChatTemplateLimits;
}

export interface RenderRequest {
  messages: readonly ChatMessage[];
  /** Whether the beginning of an answer follows the messages. */
  generationPrompt: boolean;
  bosToken: string | null;
  eosToken: string | null;
}

export type RenderReply = { type: 'ready' } | { type: 'text'; text: string } | { type: 'error'; reason: string };

const { source, limits } = workerData as TemplateWorkerData;
boundThread(limits);
let render: Render | null = null;

parentPort?.on('message', ({ messages, generationPrompt, bosToken, eosToken }: RenderRequest) => {
  let reply: RenderReply;
  try {
    render ??= compileTemplate(source, limits);
    const tokens = { bos_token: bosToken ?? '', eos_token: eosToken ?? '' };
    reply = { type: 'text', text: render({ messages, add_generation_prompt: generationPrompt, ...tokens }) };
  } catch (error) {
    reply = { type: 'error', reason: error instanceof Error ? error.message : String(error) };
  }
  parentPort?.postMessage(reply);
});
parentPort?.postMessage({ type: 'ready' } satisfies RenderReply);
