export type CpioEntry =
  | { path: string; mode?: number; data: Uint8Array | string }
  | { path: string; mode?: number; dir: true }
  | { path: string; link: string }
  | { path: string; mode?: number; char: [number, number] };
export function writeCpio(entries: CpioEntry[]): Uint8Array;
