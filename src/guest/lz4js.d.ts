declare module 'lz4js' {
  /** Decompresses one block into `target` at `targetAt`. Returns the position after the last byte written. */
  export function decompressBlock(
    source: Uint8Array,
    target: Uint8Array,
    sourceAt: number,
    sourceBytes: number,
    targetAt: number,
  ): number;
}
