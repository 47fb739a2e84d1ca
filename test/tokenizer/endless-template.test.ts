// Chat templates are programs of the model's author. Whatever one does, the event loop stays free, the process lives,
// the request gets ERR_CHAT_TEMPLATE in time, and the requests behind it get their answers.

import { afterEach, describe, expect, it } from 'vitest';
import { ChatTemplate, chatTemplateLimits } from '../../lib/tokenizer/chat-template.ts';
import type { ChatMessage } from '../../lib/tokenizer/tokenizer.ts';

const tokens = { bosToken: '<s>', eosToken: null };
const open: ChatTemplate[] = [];

function template(source: string, limits: Partial<typeof chatTemplateLimits> = {}): ChatTemplate {
  const made = new ChatTemplate(source, 'folder', { ...chatTemplateLimits, ...limits });
  open.push(made);
  return made;
}

function render(source: string, limits?: Partial<typeof chatTemplateLimits>): Promise<string> {
  return template(source, limits).render([{ role: 'user', content: 'hello' }], tokens);
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((made) => made.dispose()));
});

const loop = '{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}';
/** 2^27 characters out of 27 turns. */
const doubling =
  "{% set n = namespace(s='ab') %}{% for i in range(26) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s | length }}";

describe('a template that loops', () => {
  it('is stopped in time while the event loop runs', async () => {
    let ticks = 0;
    const timer = setInterval(() => ticks++, 5);
    await expect(render(loop, { timeMs: 300 })).rejects.toMatchObject({
      code: 'ERR_CHAT_TEMPLATE',
      message: expect.stringMatching(/folder.*1 message.*stopped after 0\.3 s.*pass it as `prompt`/),
    });
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(10);
  });

  it('does not take the renderings before and behind it along', async () => {
    const made = template(`{% if messages[0].content == 'loop' %}${loop}{% endif %}{{ messages[0].content }}`, {
      timeMs: 300,
    });
    const say = (content: string) => made.render([{ role: 'user', content }], tokens);
    const [before, looping, behind] = await Promise.allSettled([say('one'), say('loop'), say('two')]);
    expect(before).toMatchObject({ status: 'fulfilled', value: 'one' });
    expect(looping).toMatchObject({ reason: { code: 'ERR_CHAT_TEMPLATE' } });
    expect(behind).toMatchObject({ status: 'fulfilled', value: 'two' });
    expect(await say('three')).toBe('three');
  });

  it('ends with its tokenizer', async () => {
    const made = template(loop);
    const renderings = [1, 2].map(() => made.render([{ role: 'user', content: 'x' }], tokens));
    const settled = Promise.allSettled(renderings);
    await made.dispose();
    for (const result of await settled) expect(result).toMatchObject({ reason: { code: 'ERR_DISPOSED' } });
    await expect(made.render([], tokens)).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
  });
});

describe('a template that asks for memory', () => {
  const hostile: Record<string, string> = {
    'a list of a billion numbers': '{{ range(1000000000) | length }}',
    'doubled text': doubling,
    'doubled lists': '{% set n = namespace(s=[1]) %}{% for i in range(40) %}{% set n.s = n.s + n.s %}{% endfor %}',
    'a list of lists of lists, printed': `{% set n = namespace(s=[1]) %}{% for i in range(60) %}{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s }}`,
    'an indentation of 400 million': "{{ 'a\\nb' | indent(400000000) | upper | length }}",
    'JSON indented by 400 million': '{{ [[1]] | tojson(indent=400000000) }}',
    'text replaced by longer text, again and again':
      "{% set n = namespace(s='a') %}{% for i in range(30) %}{% set n.s = n.s | replace('a', 'aaaaaaaa') %}{% endfor %}",
    'text split into letters, kept':
      "{% set n = namespace(s='a,', k=[]) %}{% for i in range(20) %}{% set n.s = n.s ~ n.s %}{% endfor %}{% for i in range(100) %}{% set n.k = [n.k, n.s.split(',')] %}{% endfor %}",
    'joined copies':
      "{% set n = namespace(s='abcd') %}{% for i in range(20) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ [n.s, n.s, n.s, n.s] | join('-') | length }}",
    'endless output': `{% for a in range(4000000) %}{{ messages[0].content }}{{ messages[0].content }}{% endfor %}`,
  };

  it.each(Object.entries(hostile))('%s: refused, and the process lives', { timeout: 30_000 }, async (_, source) => {
    await expect(render(source, { heapBytes: 2 ** 26, timeMs: 1500 })).rejects.toMatchObject({
      code: 'ERR_CHAT_TEMPLATE',
      message: expect.stringMatching(/more than \d+ (characters|MiB)|stopped after/),
    });
  });

  it('recursion without end is an error like any other', async () => {
    await expect(render('{% macro f(g) %}{{ g(g) }}{% endmacro %}{{ f(f) }}')).rejects.toMatchObject({
      code: 'ERR_CHAT_TEMPLATE',
    });
    await expect(render(`{{ ${'('.repeat(100_000)}1${')'.repeat(100_000)} }}`)).rejects.toMatchObject({
      code: 'ERR_CHAT_TEMPLATE',
    });
  });

  it('messages longer than any context are refused before anything is copied', async () => {
    const messages = [{ role: 'user', content: 'x'.repeat(chatTemplateLimits.length) }];
    await expect(template('hi').render(messages, tokens)).rejects.toMatchObject({
      code: 'ERR_CHAT_TEMPLATE',
      message: expect.stringContaining(`the limit is ${chatTemplateLimits.length}`),
    });
  });
});

describe('an honest template', () => {
  it('reads every field of a message', async () => {
    const source = `{% for m in messages %}{{ m.role }}:{{ m.name }}:{% for c in m.tool_calls or [] %}{{ c.function.name }}({{ c.function.arguments | tojson }}){% endfor %}{{ m.tool_call_id }}{{ m.content if m.content is not none }};{% endfor %}`;
    const messages: ChatMessage[] = [
      { role: 'user', name: 'Ann', content: 'hi' },
      { role: 'assistant', content: null, tool_calls: [{ function: { name: 'f', arguments: { a: [1, 'ü'] } } }] },
      { role: 'tool', tool_call_id: 'x1', content: '3' },
    ];
    expect(await template(source).render(messages, tokens)).toBe(
      'user:Ann:hi;assistant::f({"a": [1, "ü"]});tool::x13;',
    );
  });

  it('keeps what Jinja does with text: replace, join, split, indent, and JSON', async () => {
    const source =
      "{{ 'a.b.a' | replace('a', 'cc') }}|{{ 'aaa'.replace('a', 'b', 2) }}|{{ 'xy'.replace('', '-') }}|{{ ['1', '2'] | join(', ') }}|{{ 'a b'.split() | length }}|{{ 'a\\nb' | indent(2) }}|{{ {'k': [1, 2.5]} | tojson(indent=1) }}|{{ [1, 'x'] }}";
    expect(await render(source)).toBe('cc.b.cc|bba|-x-y-|1, 2|2|a\n  b|{\n "k": [\n  1,\n  2.5\n ]\n}|[1, "x"]');
  });

  it('takes a conversation as long as a context', async () => {
    const messages = Array.from({ length: 1000 }, (_, i) => ({ role: 'user', content: `${i} `.repeat(500) }));
    const text = await template("{% for m in messages %}{{ m['content'] | trim }}{% endfor %}").render(
      messages,
      tokens,
    );
    expect(text.length).toBeGreaterThan(1_000_000);
  });
});
