/*
 * All that the core takes from its surroundings beside the language and WebAssembly: what browsers, their workers and Node
 * have alike. The core is compiled with these declarations only (tsconfig/core.json), so that nothing of Node or of a page
 * creeps in. Each says no more of a thing than the core uses. Source: WHATWG Encoding, Streams, Compression, DOM and HTML.
 */

declare class TextEncoder {
  encode(text?: string): Uint8Array<ArrayBuffer>;
  encodeInto(text: string, into: Uint8Array): { read: number; written: number };
}
declare class TextDecoder {
  constructor(encoding?: string, options?: { fatal?: boolean; ignoreBOM?: boolean });
  decode(bytes?: ArrayBufferView | ArrayBufferLike, options?: { stream?: boolean }): string;
}
/** The bytes of base64, as characters of codes 0 to 255. */
declare function atob(base64: string): string;
/** The base64 of characters of codes 0 to 255. */
declare function btoa(binary: string): string;

declare class ReadableStream<T> {
  constructor(source?: {
    start?(controller: { enqueue(chunk: T): void; close(): void; error(reason: unknown): void }): void;
  });
  getReader(): {
    read(): Promise<{ done: false; value: T } | { done: true; value?: undefined }>;
    cancel(reason?: unknown): Promise<void>;
  };
  pipeThrough<U>(through: { readonly readable: ReadableStream<U> }): ReadableStream<U>;
}
declare class DecompressionStream {
  constructor(format: 'gzip');
  readonly readable: ReadableStream<Uint8Array>;
}
declare class Blob {
  constructor(parts: readonly Uint8Array<ArrayBuffer>[]);
  stream(): ReadableStream<Uint8Array>;
}

interface AbortSignal {
  readonly aborted: boolean;
  addEventListener(type: 'abort', listener: () => void, options?: { once?: boolean }): void;
}

/** Milliseconds of a clock that never runs backwards. */
declare const performance: { now(): number };
declare function queueMicrotask(callback: () => void): void;
/** What these give is different everywhere, and is only there to be given back. */
interface Timer {
  readonly timer: unique symbol;
  /** Only Node has it: the timer keeps no process alive. */
  unref?(): void;
}
declare function setTimeout(callback: (nothing: undefined) => void, ms: number): Timer;
declare function clearTimeout(timer: Timer | undefined): void;
declare function setInterval(callback: (nothing: undefined) => void, ms: number): Timer;
declare function clearInterval(timer: Timer | undefined): void;
