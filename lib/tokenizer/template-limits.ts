// Jinja whose values cannot grow without end. A thread's own heap limit is no protection: V8 ends the whole process when
// one allocation goes far past it, and a template of 60 characters can ask for one. So everything that makes one large
// allocation out of small values is bounded, and the heap is looked at in between.

import { getHeapStatistics } from 'node:v8';
import { Interpreter, Template } from '@huggingface/jinja';
import type { ChatTemplateLimits } from './chat-template.ts';

export type Render = (variables: Record<string, unknown>) => string;

/** What evaluating one node costs at least, and how many bytes may pass between two looks at the heap. */
const nodeBytes = 128;
const bytesBetweenLooks = 2 ** 22;

/**
 * Bounds the interpreter and the primitives that it uses, in this thread and for good: call it once, in a thread that
 * does nothing else than rendering.
 */
export function boundThread(limits: ChatTemplateLimits): void {
  boundInterpreter(limits);
  boundStrings(limits.length);
  boundArrays(limits.length);
}

/** @throws Error with the template's own complaint, or with the limit that it passed */
export function compileTemplate(source: string, limits: ChatTemplateLimits): Render {
  checkLength(source.length, limits.length);
  const template = new Template(source);
  return (variables) => {
    startHeap = getHeapStatistics().used_heap_size;
    unseenBytes = 0;
    const text = template.render(variables);
    checkLength(text.length, limits.length);
    return text;
  };
}

/** State of the rendering of this thread. */
let startHeap = 0;
let unseenBytes = 0;

function boundInterpreter(limits: ChatTemplateLimits): void {
  const evaluate = Interpreter.prototype.evaluate;
  Interpreter.prototype.evaluate = function (...args: Parameters<Interpreter['evaluate']>) {
    const result = evaluate.apply(this, args);
    const value: unknown = (result as { value?: unknown } | undefined)?.value;
    const length = typeof value === 'string' || Array.isArray(value) ? value.length : 0;
    checkLength(length, limits.length);
    unseenBytes += nodeBytes + 8 * length;
    if (unseenBytes > bytesBetweenLooks) {
      unseenBytes = 0;
      checkHeap(limits.heapBytes);
    }
    return result;
  };
}

function boundStrings(limit: number): void {
  const { repeat } = String.prototype;
  String.prototype.repeat = function (count) {
    checkLength(this.length * count, limit);
    return repeat.call(this, count);
  };
  const { replaceAll } = String.prototype;
  // The interpreter replaces with a regular expression and a function, which V8 does by way of a list of all matches.
  const bounded = function (this: string, pattern: string | RegExp, replacement: string | ((match: string) => string)) {
    if (typeof pattern === 'string' || typeof replacement === 'string') {
      throw new Error('it replaced text in an unforeseen way');
    }
    let text = '';
    let end = 0;
    for (const match of this.matchAll(pattern)) {
      text += this.slice(end, match.index) + replacement(match[0]);
      checkLength(text.length, limit);
      end = match.index + match[0].length;
    }
    return text + this.slice(end);
  };
  String.prototype.replaceAll = bounded as typeof replaceAll;
}

function boundArrays(limit: number): void {
  const { push } = Array.prototype;
  Array.prototype.push = function (...items: unknown[]) {
    checkLength(this.length, limit);
    return push.apply(this, items);
  };
  Array.prototype.join = function (separator = ',') {
    let text = '';
    for (let i = 0; i < this.length; i++) {
      const item: unknown = this[i];
      text += (i === 0 ? '' : separator) + (item === null || item === undefined ? '' : String(item));
      checkLength(text.length, limit);
    }
    return text;
  };
}

function checkLength(length: number, limit: number): void {
  if (length > limit) throw new Error(`it built a text or list of more than ${limit} characters or items`);
}

function checkHeap(limit: number): void {
  if (getHeapStatistics().used_heap_size - startHeap > limit) {
    throw new Error(`it used more than ${limit / 2 ** 20} MiB of memory`);
  }
}
