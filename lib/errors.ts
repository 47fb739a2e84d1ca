// Every way in which swiftkv can refuse or fail, as one list.

/** Stable codes: they are part of the interface and never change their meaning. */
export const errorCodes = {
  ERR_INVALID_ARGUMENT: 'a value passed by the caller is not acceptable',
  ERR_MODEL_NOT_FOUND: 'the model folder or one of its files does not exist',
  ERR_MODEL_UNSUPPORTED: 'the model needs something that swiftkv does not have',
  ERR_MODEL_INVALID: 'a file of the model is damaged or contradicts another',
  ERR_CONTEXT_LENGTH: 'the prompt and the answer do not fit the context',
  ERR_CACHE_TOO_SMALL: 'the request can never fit the KV cache',
  ERR_QUEUE_FULL: 'as many requests wait as the engine allows',
  ERR_QUEUE_TIMEOUT: 'the request has waited for longer than it may',
  ERR_OUT_OF_MEMORY: 'memory could not be allocated',
  ERR_NO_TOKENIZER: 'text was given or asked for and the model has no tokenizer',
  ERR_CHAT_TEMPLATE: 'the chat template is missing or failed',
  ERR_ABORTED: 'the work was stopped by a signal, a break or dispose',
  ERR_DRAINING: 'the engine ends what it has and takes no new requests',
  ERR_DISPOSED: 'the engine or native object has been disposed of',
  ERR_NUMERIC: 'the model produced NaN or infinite numbers: logits of this request, or a loss in training',
  ERR_NO_TOKEN_ALLOWED: 'masks, biases and minTokens of the request leave no token to choose',
  ERR_IO: 'reading or writing a file failed',
  ERR_NATIVE_LOAD: 'the native addon could not be loaded',
  ERR_UNSUPPORTED: 'this build or backend does not have the requested operation',
  ERR_INTERNAL: 'a defect in swiftkv: please report it',
} as const;

export type ErrorCode = keyof typeof errorCodes;

const marker = Symbol.for('swiftkv.error');

/**
 * The only error that swiftkv throws or rejects with. The message says what was wrong, where, and how to mend it.
 * Use `SwiftKVError.is(e)` rather than `instanceof`: it also recognises errors of a second copy of the package.
 */
export class SwiftKVError extends Error {
  override readonly name = 'SwiftKVError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
    Object.defineProperty(this, marker, { value: true });
  }

  static is(error: unknown): error is SwiftKVError {
    return typeof error === 'object' && error !== null && marker in error;
  }
}

/** Native errors arrive as plain errors with a `code`; everything else is a defect. */
export function toSwiftKVError(error: unknown): SwiftKVError {
  if (SwiftKVError.is(error)) return error;
  if (error instanceof Error) {
    const code = (error as { code?: unknown }).code;
    const known = typeof code === 'string' && Object.hasOwn(errorCodes, code);
    return new SwiftKVError(known ? (code as ErrorCode) : 'ERR_INTERNAL', error.message, { cause: error });
  }
  return new SwiftKVError('ERR_INTERNAL', String(error), { cause: error });
}
