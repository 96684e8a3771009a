/**
 * Reads just enough of ELF64 to load a program: segments, entry, and the loader that it names (ELF-64 object file
 * format, System V gABI).
 */

export interface Segment {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly address: number;
  readonly fileBytes: number;
  readonly memoryBytes: number;
}

export interface Elf {
  readonly entry: number;
  /** True if the program is position independent and may be loaded anywhere. */
  readonly relocatable: boolean;
  readonly headersAt: number;
  readonly headerBytes: number;
  readonly segments: readonly Segment[];
  readonly interpreter: string | undefined;
}

export const LOAD = 1;
const INTERPRETER = 3;
const DYNAMIC_OBJECT = 3;
export const EXECUTE = 1;
export const WRITE = 2;

export function readElf(bytes: Uint8Array): Elf {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0) !== 0x7f454c46 || view.getUint8(4) !== 2 || view.getUint16(18, true) !== 62)
    throw new Error('not an ELF file for x86-64');
  const word = (at: number): number => Number(view.getBigUint64(at, true));
  const headersAt = word(32);
  const headerBytes = view.getUint16(54, true);
  const segments = Array.from({ length: view.getUint16(56, true) }, (_, i): Segment => {
    const at = headersAt + i * headerBytes;
    return {
      type: view.getUint32(at, true),
      flags: view.getUint32(at + 4, true),
      offset: word(at + 8),
      address: word(at + 16),
      fileBytes: word(at + 32),
      memoryBytes: word(at + 40),
    };
  });
  const named = segments.find((s) => s.type === INTERPRETER);
  const interpreter =
    named && new TextDecoder().decode(bytes.subarray(named.offset, named.offset + named.fileBytes - 1));
  return {
    entry: word(24),
    relocatable: view.getUint16(16, true) === DYNAMIC_OBJECT,
    headersAt,
    headerBytes,
    segments,
    interpreter,
  };
}
