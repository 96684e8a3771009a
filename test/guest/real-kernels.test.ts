import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { ensureGuests, type Guests } from '../../scripts/lib/guests.js';
import { loadImage } from '../../src/guest/builder.js';
import { unpackKernel } from '../../src/guest/bzimage.js';
import { parseElf } from '../../src/guest/elf.js';
import { findNotes } from '../../src/guest/elf-notes.js';
import { orSkipped } from '../support/debian.js';
import { type Built, build, guardsIntact, mfn, target } from './memory-of-domain.js';

const guests: Guests | undefined = await orSkipped('real kernels', ensureGuests());
const file = (name: keyof Guests): Uint8Array => readFileSync(guests![name]!);

const PRESENT = 1n;
const RW = 2n;
const USER = 4n;
const ACCESSED = 0x20n;
const DIRTY = 0x40n;
const START_INFO = 'xen-3.0-x86_64';

describe.skipIf(!guests)('notes of real kernels', () => {
  const notes = (bytes: Uint8Array): Record<number, string | bigint> => {
    const says = findNotes(parseElf(bytes));
    if (says === undefined || says.from !== 'PT_NOTE') throw new Error('no PT_NOTE');
    const texts = [5, 6, 7, 8, 9, 10, 11];
    return Object.fromEntries(
      says.notes.map((n) => [n.type, texts.includes(n.type) ? n.text() : n.numeric()]),
    );
  };

  test('Linux declares what its source contains', () => {
    const { 1: entry, ...rest } = notes(file('vmlinux'));
    expect(rest).toMatchObject({
      3: 0xffffffff80000000n,
      4: 0n,
      5: 'xen-3.0',
      6: 'linux',
      7: '2.6',
      8: 'generic',
      9: 'yes',
      10: '!writable_page_tables|pae_pgdir_above_4gb',
      12: 0xffff800000000000n,
      14: 1n,
      15: 0x8000000000n,
      16: 1n,
      17: 0x8801n,
    });
    expect(rest[2]).toBeUndefined();
    expect(entry).toBeGreaterThan(0xffffffff81000000n);
  });

  test('GRUB for x86-64 declares little', () => {
    expect(notes(file('grub'))).toEqual({ 1: 0n, 3: 0n, 5: 'xen-3.0', 6: 'GRUB', 8: 'generic' });
  });

  test('a note of GRUB for i386 that extends beyond its segment is read up to its zero byte', () => {
    expect(notes(file('grub32'))).toEqual({ 1: 0n, 3: 0n, 5: 'xen-3.0', 6: 'GRUB', 8: 'generic', 9: 'yes' });
  });

  test('GRUB for i386 is refused with the name of its ABI', async () => {
    await expect(loadImage({ kernel: file('grub32'), cmdline: '' })).rejects.toThrow(/xen-3.0-x86_32p/);
  });
});

describe.skipIf(!guests)('the kernel in a bzImage', () => {
  test('is byte for byte what the xz program decompresses', async () => {
    const kernel = await unpackKernel(file('vmlinuz'));
    expect(Buffer.compare(kernel, file('vmlinux'))).toBe(0);
  });
});

describe.skipIf(!guests)('Debian Linux in 128 MB with a ramdisk', () => {
  const cmdline = 'console=hvc0 loglevel=7 rdinit=/init';
  const base = 0xffffffff80000000n;
  let domain: Built;
  let ramdisk: Uint8Array;
  beforeAll(async () => {
    const image = await loadImage({ kernel: file('vmlinux'), ramdisk: file('initramfs'), cmdline });
    ramdisk = image.ramdisk!;
    domain = build(image, target(128));
  });
  const startInfo = (): bigint => BigInt.asUintN(64, BigInt(domain.rsi));

  test('the mapping is one run of frames from VIRT_BASE to a 4 MiB boundary', () => {
    const end = domain.layout.mappedEnd;
    expect(end % 0x400000n).toBe(0n);
    let pfn = 0;
    for (let va = base; va < end; va += 4096n) expect(domain.walk(va)?.pfn).toBe(pfn++);
    expect(domain.walk(end)).toBeUndefined();
    expect(domain.walk(base - 4096n)).toBeUndefined();
    expect(domain.walk(0n)).toBeUndefined();
  });

  test("page tables are mapped read-only, everything else writable, with the flags that Xen's toolstack uses", () => {
    const first = domain.layout.pageTables;
    const branch = PRESENT | RW | USER | ACCESSED | DIRTY;
    for (let va = base; va < domain.layout.mappedEnd; va += 4096n) {
      const { pfn, flags } = domain.walk(va)!;
      const table = pfn >= first.pfn && pfn < first.pfn + first.pages;
      expect(flags).toEqual([branch, branch, branch, PRESENT | ACCESSED | (table ? 0n : RW)]);
    }
  });

  test('kernel, start-of-day pages, tables and boot stack follow one another, with 512 KiB to spare', () => {
    const { layout } = domain;
    const order = [
      layout.kernel,
      layout.startInfo,
      layout.xenstore,
      layout.console,
      layout.pageTables,
      layout.bootStack,
    ];
    expect(layout.kernel.pfn).toBe(0x1000);
    for (let i = 1; i < order.length; i++) expect(order[i].pfn).toBe(order[i - 1].pfn + order[i - 1].pages);
    const used = base + BigInt(layout.bootStack.pfn + 1) * 4096n;
    expect(layout.mappedEnd - used).toBeGreaterThanOrEqual(512n * 1024n);
    expect(layout.mappedEnd - used).toBeLessThan(512n * 1024n + 0x400000n);
    expect(domain.rsp).toBe(Number(BigInt.asIntN(64, used)));
  });

  test('the decompressed ramdisk is where Linux found it on real Xen: directly after the mapping', () => {
    // Linux 6.1 of the same sizes on Xen 4.17 said "RAMDISK: [mem 0x04c00000-": the first 4 MiB boundary with room
    expect(domain.layout.ramdisk!.pfn * 4096).toBe(Number(domain.layout.mappedEnd - base));
    expect(String.fromCharCode(...ramdisk.subarray(0, 6))).toBe('070701');
    const at = domain.target.ram.linearOf(domain.layout.ramdisk!.pfn);
    expect(Buffer.compare(domain.target.ram.mem.bytes(at, ramdisk.length), ramdisk)).toBe(0);
  });

  test('start_info has all that a guest is to know', () => {
    const { layout } = domain;
    const s = startInfo();
    const page = domain.at(s, 1168);
    const magic = new TextEncoder().encode(START_INFO);
    expect([...page.subarray(0, 32)]).toEqual([...magic, ...new Array(32 - magic.length).fill(0)]);
    expect({
      nr_pages: domain.u64(s + 32n),
      shared_info: domain.u64(s + 40n),
      flags: domain.u32(s + 48n),
      store_mfn: domain.u64(s + 56n),
      store_evtchn: domain.u32(s + 64n),
      console_mfn: domain.u64(s + 72n),
      console_evtchn: domain.u32(s + 80n),
      pt_base: domain.u64(s + 88n),
      nr_pt_frames: domain.u64(s + 96n),
      mfn_list: domain.u64(s + 104n),
      mod_start: domain.u64(s + 112n),
      mod_len: domain.u64(s + 120n),
      first_p2m_pfn: domain.u64(s + 1152n),
      nr_p2m_frames: domain.u64(s + 1160n),
    }).toEqual({
      nr_pages: 32768n,
      shared_info: BigInt(mfn(32768)) * 4096n,
      flags: 0x8, // SIF_MOD_START_PFN
      store_mfn: BigInt(mfn(layout.startInfo.pfn + 1)),
      store_evtchn: 1,
      console_mfn: BigInt(mfn(layout.startInfo.pfn + 2)),
      console_evtchn: 2,
      pt_base: s + 3n * 4096n,
      nr_pt_frames: BigInt(layout.pageTables.pages),
      mfn_list: 0x8000000000n,
      mod_start: BigInt(layout.ramdisk!.pfn),
      mod_len: BigInt(Math.ceil(ramdisk.length / 4096) * 4096),
      first_p2m_pfn: BigInt(layout.ramdisk!.pfn + layout.ramdisk!.pages),
      nr_p2m_frames: 64n + 3n, // 32768 entries of 8 bytes, and one table at each of three levels
    });
    const text = page.subarray(128, 128 + 1024);
    expect(new TextDecoder().decode(text.subarray(0, text.indexOf(0)))).toBe(cmdline);
  });

  test('the list of frames is mapped at INIT_P2M and names every frame', () => {
    for (let pfn = 0; pfn < 32768; pfn += 509)
      expect(domain.u64(0x8000000000n + 8n * BigInt(pfn))).toBe(BigInt(mfn(pfn)));
    expect(domain.u64(0x8000000000n + 8n * 32767n)).toBe(BigInt(mfn(32767)));
    expect(domain.walk(0x8000000000n + 64n * 4096n)).toBeUndefined();
  });

  test('the loaded parts of the file are at their physical addresses, and the rest of their memory is zero', () => {
    const elf = parseElf(file('vmlinux'));
    const loads = elf.segments.filter((s) => s.type === 1);
    expect(loads.length).toBeGreaterThanOrEqual(3);
    const { ram } = domain.target;
    const { mem } = ram;
    for (const s of loads) {
      const at = ram.linearOf(0) + Number(s.paddr);
      const bytes = elf.bytes.subarray(Number(s.offset), Number(s.offset + s.filesz));
      expect(Buffer.compare(mem.bytes(at, bytes.length), bytes)).toBe(0);
    }
    const last = loads.at(-1)!;
    const bss = mem.bytes(
      ram.linearOf(0) + Number(last.paddr + last.filesz),
      Number(last.memsz - last.filesz),
    );
    expect(bss.some((b) => b !== 0)).toBe(false);
  });

  test("the entry is mapped and holds Linux's first instruction, which clears the direction flag", () => {
    expect([...domain.at(BigInt.asUintN(64, BigInt(domain.rip)), 1)]).toEqual([0xfc]);
  });

  test('nothing outside RAM is changed, and two builds are equal', async () => {
    expect(guardsIntact(domain.target)).toBe(true);
    const image = await loadImage({ kernel: file('vmlinux'), ramdisk: file('initramfs'), cmdline });
    const again = build(image, target(128));
    expect(Buffer.compare(again.target.ram.mem.u8, domain.target.ram.mem.u8)).toBe(0);
  });

  test('with too little memory the message names the part that does not fit', async () => {
    const image = await loadImage({ kernel: file('vmlinux'), cmdline });
    expect(() => build(image, target(32))).toThrow(/not enough memory: kernel needs \d+ pages .*\(32 MiB\)/);
  });
});

describe.skipIf(!guests)('GRUB', () => {
  test('in 64 MB: the list of frames is in the mapping, the first page is the entry, and there is no ramdisk', async () => {
    const domain = build(await loadImage({ kernel: file('grub'), cmdline: '' }), target(64));
    const { layout } = domain;
    expect(domain.rip).toBe(0);
    expect(layout.kernel.pfn).toBe(0);
    expect(layout.p2m.pfn).toBe(layout.kernel.pages);
    expect(layout.startInfo.pfn).toBe(layout.p2m.pfn + 32);
    const s = BigInt(domain.rsi);
    expect(s).toBe(BigInt(layout.startInfo.pfn) * 4096n);
    expect(domain.u64(s + 104n)).toBe(BigInt(layout.p2m.pfn) * 4096n);
    expect(domain.u32(s + 48n)).toBe(0);
    expect([
      domain.u64(s + 112n),
      domain.u64(s + 120n),
      domain.u64(s + 1152n),
      domain.u64(s + 1160n),
    ]).toEqual([0n, 0n, 0n, 0n]);
    expect(domain.u64(BigInt(layout.p2m.pfn) * 4096n + 8n * 16383n)).toBe(BigInt(mfn(16383)));
    expect(guardsIntact(domain.target)).toBe(true);
  });

  test('its ramdisk is mapped before the list of frames', async () => {
    const ramdisk = Uint8Array.from({ length: 5000 }, (_, i) => i);
    const domain = build(await loadImage({ kernel: file('grub'), ramdisk, cmdline: '' }), target(64));
    const { layout } = domain;
    const s = BigInt(domain.rsi);
    expect(domain.u64(s + 112n)).toBe(BigInt(layout.kernel.pages) * 4096n);
    expect(domain.u64(s + 120n)).toBe(8192n);
    expect(domain.at(domain.u64(s + 112n), 4096)).toEqual(ramdisk.slice(0, 4096));
    expect(domain.at(domain.u64(s + 112n) + 4096n, 904)).toEqual(ramdisk.slice(4096));
    expect(layout.p2m.pfn).toBe(layout.kernel.pages + 2);
  });
});
