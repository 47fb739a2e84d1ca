// A conversation that is kept within a model's context: the oldest turns go first, the system message never.

import type { ChatMessage } from '../../engine/types.ts';

interface Turn {
  messages: ChatMessage[];
  tokens: number;
}

/** What a chat template puts around a message, at a guess: too much rather than too little. */
const templateTokens = 8;

export class Conversation {
  readonly #countTokens: (text: string) => Promise<number>;
  readonly #system: Turn;
  #turns: Turn[] = [];

  private constructor(countTokens: (text: string) => Promise<number>, system: Turn) {
    this.#countTokens = countTokens;
    this.#system = system;
  }

  /** @param countTokens tokens of a text without special ones */
  static async open(countTokens: (text: string) => Promise<number>, system?: string): Promise<Conversation> {
    const messages = system === undefined ? [] : [{ role: 'system', content: system }];
    const tokens = system === undefined ? 0 : (await countTokens(system)) + templateTokens;
    return new Conversation(countTokens, { messages, tokens });
  }

  get numTurns(): number {
    return this.#turns.length;
  }

  /** About how many tokens its prompt has. */
  get tokens(): number {
    return this.#turns.reduce((total, { tokens }) => total + tokens, this.#system.tokens);
  }

  get messages(): ChatMessage[] {
    return [...this.#system.messages, ...this.#turns.flatMap(({ messages }) => messages)];
  }

  /** Begins a turn. */
  async say(content: string): Promise<void> {
    this.#turns.push({ messages: [{ role: 'user', content }], tokens: await this.#cost(content) });
  }

  /** Ends the turn with what the model said. */
  async answer(content: string): Promise<void> {
    const turn = this.#turns.at(-1)!;
    turn.messages.push({ role: 'assistant', content });
    turn.tokens += await this.#cost(content);
  }

  /** Takes the turn back that was begun last. */
  unsay(): void {
    this.#turns.pop();
  }

  /** Drops the oldest turn, but never the last one. */
  dropOldest(): boolean {
    if (this.#turns.length <= 1) return false;
    this.#turns.shift();
    return true;
  }

  /** Drops oldest turns until about `tokens` suffice or one is left; how many went. */
  fit(tokens: number): number {
    let dropped = 0;
    while (this.tokens > tokens && this.dropOldest()) dropped++;
    return dropped;
  }

  reset(): void {
    this.#turns = [];
  }

  async #cost(content: string): Promise<number> {
    return (await this.#countTokens(content)) + templateTokens;
  }
}
