// What the engine and the CLI need of a tokenizer.

/** One turn of a conversation, as chat templates see it: they may read every field, so all of them get through. */
export interface ChatMessage {
  role: string;
  /** null only beside `tool_calls`, where an assistant calls tools and says nothing. */
  content: string | null;
  name?: string | undefined;
  tool_calls?: readonly unknown[] | undefined;
  tool_call_id?: string | undefined;
  /** Whatever else the model's template knows, as plain data. */
  [field: string]: unknown;
}

/** Turns sampled ids into text as they come; never emits half a character. */
export interface StreamDecoder {
  /** The text that became complete with this id; '' while a character is unfinished. */
  push(id: number): string;
  /** What is left when the stream ends; an unfinished character becomes U+FFFD. */
  end(): string;
}

export interface EncodeOptions {
  /**
   * Add what the tokenizer's post-processor adds (usually a BOS). Default true. A text that already starts with the
   * BOS does not get a second one.
   */
  addSpecialTokens?: boolean;
}

export interface DecodeOptions {
  /** Leave special tokens out of the text. Default true. */
  skipSpecialTokens?: boolean;
}

export interface Tokenizer {
  /** Ids of `text`. Long texts are tokenized on a worker thread, so that the event loop stays free. */
  encode(text: string, options?: EncodeOptions): Promise<Int32Array>;
  /** A number of tokens that `text` certainly has at least: a cheap bound to refuse absurd prompts with. */
  minTokens(text: string): number;
  decode(ids: Iterable<number>, options?: DecodeOptions): string;
  /** Bytes of UTF-8 that an id stands for; null where ids are not bytes. */
  byteLength(id: number): number | null;
  streamDecoder(options?: DecodeOptions): StreamDecoder;
  /** Whether the model has a chat template. */
  readonly hasChatTemplate: boolean;
  /**
   * Renders messages with the model's chat template, by default with the generation prompt: the beginning of the answer
   * that a model is to go on with. The result holds its special tokens as text: encode it with `addSpecialTokens: false`. Runs on a worker thread with a time limit, as templates may loop.
   * @throws SwiftKVError ERR_CHAT_TEMPLATE, ERR_DISPOSED
   */
  renderChat(messages: readonly ChatMessage[], options?: { generationPrompt?: boolean }): Promise<string>;
  /** Worker threads that are there for long texts and chat templates, 0 to 2: an isolate of its own each, a few MiB. */
  readonly numWorkers: number;
  /** Ends the worker threads that were started. Idempotent. */
  dispose(): Promise<void>;
}
