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
  bosToken: string | null;
  eosToken: string | null;
}

export type RenderReply = { type: 'ready' } | { type: 'text'; text: string } | { type: 'error'; reason: string };

const { source, limits } = workerData as TemplateWorkerData;
boundThread(limits);
let render: Render | null = null;

parentPort?.on('message', ({ messages, bosToken, eosToken }: RenderRequest) => {
  let reply: RenderReply;
  try {
    render ??= compileTemplate(source, limits);
    const variables = { messages, add_generation_prompt: true, bos_token: bosToken ?? '', eos_token: eosToken ?? '' };
    reply = { type: 'text', text: render(variables) };
  } catch (error) {
    reply = { type: 'error', reason: error instanceof Error ? error.message : String(error) };
  }
  parentPort?.postMessage(reply);
});
parentPort?.postMessage({ type: 'ready' } satisfies RenderReply);
