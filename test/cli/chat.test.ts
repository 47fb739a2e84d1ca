// chat over a pipe: a line is a turn, answers on stdout, everything else on stderr.

import { describe, expect, it } from 'vitest';
import { Conversation } from '../../lib/cli/chat/conversation.ts';
import { swiftkv } from './run.ts';

const question = 'The code for Mara is 4821. The code for Owen is 990.\\\n\\\nWhat is the code for Mara?';
const greedy = ['-t', '0', '-n', '12'];

describe('chat', () => {
  it('answers a line a turn, remembers it, forgets on /reset, and keeps stdout for answers', async () => {
    const input = `${question}\n/stats\nWhat is the code for Owen?\n/stats\n/reset\n/stats\n/help\n/nothing\n`;
    const run = await swiftkv(['chat', 'embedded:base', ...greedy], input);
    expect(run.code).toBe(0);
    expect(run.stdout).toMatch(/^4821\n.+\n$/);
    const [first, second] = [...run.stderr.matchAll(/(\d+) prompt tokens/g)].map((match) => Number(match[1]));
    expect(second! - first!).toBeGreaterThan(10); // the first turn is in the second's prompt
    expect(run.stderr).toMatch(/rows x layers.*\n1 turn, about \d+ of 2,048/);
    expect(run.stderr).toMatch(/rows x layers.*\n2 turns, about \d+ of 2,048/);
    expect(run.stderr).toMatch(/\(a new conversation\)\nno answer yet\n0 turns, about 0 of/);
    expect(run.stderr).toMatch(/there is no command \/nothing/);
  });

  it('gives the answer that generate gives, with a system message too', async () => {
    const [chat, generate] = await Promise.all([
      swiftkv(['chat', 'embedded:swiftkv-50', '--system', 'Be brief.', ...greedy], 'Who wrote the letter?'),
      swiftkv(['generate', 'embedded:swiftkv-50', '--system', 'Be brief.', '-c', 'Who wrote the letter?', ...greedy]),
    ]);
    expect(chat.stderr).toBe('');
    expect(chat.stdout.trim()).toBe(generate.stdout.trim());
  });

  it('takes the sampling options of generate', async () => {
    const run = await swiftkv(['chat', 'embedded:base', ...greedy, '--stop', '21'], `${question}\n`);
    expect(run).toEqual({ code: 0, stdout: '48\n', stderr: '' });
  });

  it('stops at /exit, and at nothing', async () => {
    expect(await swiftkv(['chat', 'embedded:base'], '\n/exit\nhello\n')).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(await swiftkv(['chat', 'embedded:base'], '')).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  it('forgets the oldest turns when the context is full, and says so', async () => {
    const filler = 'The sea was calm and the ship was old and slow. '.repeat(3);
    const input = `${`${filler}\n`.repeat(6)}${question}\n/stats\n`;
    const run = await swiftkv(['chat', 'embedded:base', '--max-model-len', '256', ...greedy], input);
    expect(run.code).toBe(0);
    expect(run.stdout.trim().split('\n')).toHaveLength(7);
    expect(run.stderr).toMatch(/outgrew the context of 256 tokens: forgot 1 turn/);
    expect(Number(/about (\d+) of 256/.exec(run.stderr)![1])).toBeLessThanOrEqual(256);
  });

  it('says that an answer ends because the context is full', async () => {
    const args = ['chat', 'embedded:base', '--max-model-len', '64', '-t', '0', '--ignore-eos'];
    const run = await swiftkv(args, 'Tell me about the sea.\n');
    expect(run.stderr).toMatch(/ends here because the context of 64 tokens is full/);
  });

  it('refuses a message longer than the context', async () => {
    const args = ['chat', 'embedded:base', '--max-model-len', '64'];
    const run = await swiftkv(args, `${'sea '.repeat(100)}\n`);
    expect(run.stderr).toMatch(/ERR_CONTEXT_LENGTH/);
    expect(run).toMatchObject({ code: 1, stdout: '' });
  });

  it('refuses a model without a chat template', async () => {
    const run = await swiftkv(['chat', 'random:embedded'], 'hello\n');
    expect(run.stderr).toMatch(/chat template, which turns a conversation into a prompt.*ERR_CHAT_TEMPLATE/);
    expect(run.code).toBe(1);
  });
});

describe('a conversation', () => {
  const open = (system?: string) => Conversation.open(async (text) => text.length, system);
  const contents = (conversation: Conversation) => conversation.messages.map(({ content }) => content);

  it('drops oldest turns whole, and neither the system message nor the last turn', async () => {
    const conversation = await open('system');
    for (const word of ['one', 'two', 'three']) {
      await conversation.say(word);
      await conversation.answer(`${word}!`);
    }
    await conversation.say('four');
    const tokens = conversation.tokens;
    expect(conversation.fit(tokens)).toBe(0);
    expect(conversation.fit(tokens - 1)).toBe(1);
    expect(contents(conversation)).toEqual(['system', 'two', 'two!', 'three', 'three!', 'four']);
    expect(conversation.fit(0)).toBe(2);
    expect(contents(conversation)).toEqual(['system', 'four']);
    expect(conversation.dropOldest()).toBe(false);
    conversation.unsay();
    expect([conversation.numTurns, contents(conversation)]).toEqual([0, ['system']]);
    conversation.reset();
    expect(conversation.tokens).toBe('system'.length + 8);
  });
});
