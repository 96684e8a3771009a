/** Describes for people where two twins differ. Undefined: they do not. */

import { PAGE } from '../../src/engine/engine.js';
import { decodeAll } from '../../src/records/record.js';
import type { TwinGuest } from './twin.js';

const hex = (n: number): string => `0x${n.toString(16)}`;

export function difference(still: TwinGuest, moved: TwinGuest): string | undefined {
  if (still.now !== moved.now) return `virtual time ${still.now} and ${moved.now}`;
  if (JSON.stringify(still.ended) !== JSON.stringify(moved.ended))
    return `ended ${JSON.stringify(still.ended)} and ${JSON.stringify(moved.ended)}`;
  if (still.output !== moved.output) return `console: ${firstOutput(still.output, moved.output)}`;
  const a = still.state();
  const b = moved.state();
  if (Buffer.compare(a.ram, b.ram) !== 0) {
    const at = a.ram.findIndex((byte, i) => byte !== b.ram[i]);
    const words = [a.ram, b.ram].map((ram) =>
      Buffer.from(ram.subarray(at & ~7, (at & ~7) + 8)).toString('hex'),
    );
    return `memory: frame ${hex(Math.floor(at / PAGE))} + ${hex(at % PAGE)}: ${words[0]} and ${words[1]}`;
  }
  const disk = Buffer.compare(still.outside.contents, moved.outside.contents);
  if (disk !== 0) return `disk: ${firstByte(still.outside.contents, moved.outside.contents)}`;
  for (const [name, record] of a.records) {
    const other = b.records.get(name) ?? new Uint8Array();
    if (Buffer.compare(record, other) !== 0) return `${name}: ${firstRecord(name, record, other)}`;
  }
  return undefined;
}

function firstOutput(a: string, b: string): string {
  let at = 0;
  while (a[at] === b[at]) at++;
  return `at ${at}: ${JSON.stringify(a.slice(at - 20, at + 40))} and ${JSON.stringify(b.slice(at - 20, at + 40))}`;
}

/**
 * Returns the record and the byte in it that differ. The xenstore is in Xen's own format, which has none of our
 * records.
 */
function firstRecord(name: string, a: Uint8Array, b: Uint8Array): string {
  if (name === 'xenstore') return firstByte(a, b);
  const [x, y] = [decodeAll(a), decodeAll(b)];
  for (let i = 0; i < Math.max(x.length, y.length); i++) {
    if (x[i]?.tag !== y[i]?.tag) return `${x[i]?.tag} and ${y[i]?.tag}`;
    if (Buffer.compare(x[i].body, y[i].body) !== 0) return `${x[i].tag} ${firstByte(x[i].body, y[i].body)}`;
  }
  return 'no record differs';
}

function firstByte(a: Uint8Array, b: Uint8Array): string {
  let at = 0;
  while (at < a.length && a[at] === b[at]) at++;
  const around = [a, b].map((all) => Buffer.from(all.subarray(Math.max(0, at - 8), at + 8)).toString('hex'));
  return `byte ${at} of ${a.length}: ${around[0]} and ${around[1]}`;
}
