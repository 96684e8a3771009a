/** Makes small ELF kernels for tests of the domain builder, with any notes and segments. */

export interface Note {
  owner?: string;
  type: number;
  /** Text gets a terminating zero byte; a bigint is 8 bytes. */
  value: string | bigint | Uint8Array;
  /** The size that the header declares, if it is to be wrong. */
  size?: number;
}

export interface ElfSpec {
  entry?: bigint;
  load?: { paddr: bigint; data: Uint8Array; memsz?: bigint }[];
  notes?: Note[];
  /** Where the notes are: in a PT_NOTE segment (default), or in a section of type SHT_NOTE. */
  notesIn?: 'segment' | 'section';
  /** The text of a section __xen_guest. */
  xenGuest?: string;
  machine?: number;
}

export const NOTE = {
  entry: 1,
  hypercallPage: 2,
  virtBase: 3,
  paddrOffset: 4,
  xenVersion: 5,
  guestOs: 6,
  loader: 8,
  features: 10,
  initP2m: 15,
  modStartPfn: 16,
  phys32Entry: 18,
};

/** The notes that every kernel needs. */
export const BASIC: Note[] = [
  { type: NOTE.xenVersion, value: 'xen-3.0' },
  { type: NOTE.loader, value: 'generic' },
];

const bytesOf = (value: Note['value']): Uint8Array => {
  if (typeof value === 'string') return new TextEncoder().encode(`${value}\0`);
  if (typeof value !== 'bigint') return value;
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, value, true);
  return out;
};

function noteBytes(notes: Note[]): Uint8Array {
  const parts: number[] = [];
  const word = (n: number): void => {
    parts.push(n & 255, (n >>> 8) & 255, (n >>> 16) & 255, n >>> 24);
  };
  const padded = (bytes: Iterable<number>): void => {
    parts.push(...bytes);
    while (parts.length % 4) parts.push(0);
  };
  for (const n of notes) {
    const owner = `${n.owner ?? 'Xen'}\0`;
    const value = bytesOf(n.value);
    word(owner.length);
    word(n.size ?? value.length);
    word(n.type);
    padded(new TextEncoder().encode(owner));
    padded(value);
  }
  return Uint8Array.from(parts);
}

export function makeElf(spec: ElfSpec): Uint8Array {
  const load = spec.load ?? [{ paddr: 0n, data: Uint8Array.of(0xf4) }];
  const notes = noteBytes(spec.notes ?? BASIC);
  const asSection = spec.notesIn === 'section';
  const sections = [
    { name: '', type: 0, data: new Uint8Array(0) },
    { name: '.shstrtab', type: 3, data: new Uint8Array(0) },
    ...(asSection ? [{ name: '.note.Xen', type: 7, data: notes }] : []),
    ...(spec.xenGuest === undefined
      ? []
      : [{ name: '__xen_guest', type: 1, data: new TextEncoder().encode(`${spec.xenGuest}\0`) }]),
  ];
  const names = sections.map((s) => `${s.name}\0`).join('');
  sections[1].data = new TextEncoder().encode(names);
  const segments = [
    ...load.map((l) => ({ type: 1, flags: 7, ...l, memsz: l.memsz ?? BigInt(l.data.length) })),
    ...(asSection || spec.xenGuest !== undefined
      ? []
      : [{ type: 4, flags: 4, paddr: 0n, data: notes, memsz: BigInt(notes.length) }]),
  ];
  const phoff = 64;
  const shoff = phoff + 56 * segments.length;
  let at = shoff + 64 * sections.length;
  const size = at + [...segments, ...sections].reduce((sum, s) => sum + s.data.length + 8, 0);
  const out = new Uint8Array(size);
  const view = new DataView(out.buffer);
  const place = (data: Uint8Array): bigint => {
    out.set(data, at);
    const where = at;
    at += Math.ceil(data.length / 8) * 8;
    return BigInt(where);
  };
  out.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, spec.machine ?? 62, true);
  view.setBigUint64(24, spec.entry ?? 0n, true);
  view.setBigUint64(32, BigInt(phoff), true);
  view.setBigUint64(40, BigInt(shoff), true);
  [64, 56, segments.length, 64, sections.length, 1].forEach((n, i) => {
    view.setUint16(52 + 2 * i, n, true);
  });
  segments.forEach((s, i) => {
    const p = phoff + 56 * i;
    view.setUint32(p, s.type, true);
    view.setUint32(p + 4, s.flags, true);
    view.setBigUint64(p + 8, place(s.data), true);
    view.setBigUint64(p + 24, s.paddr, true);
    view.setBigUint64(p + 32, BigInt(s.data.length), true);
    view.setBigUint64(p + 40, s.memsz, true);
  });
  sections.forEach((s, i) => {
    const p = shoff + 64 * i;
    view.setUint32(p, names.indexOf(`${s.name}\0`), true);
    view.setUint32(p + 4, s.type, true);
    view.setBigUint64(p + 24, place(s.data), true);
    view.setBigUint64(p + 32, BigInt(s.data.length), true);
  });
  return out;
}
