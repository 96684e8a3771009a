import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { loadImage } from '../../src/guest/builder.js';
import { KernelError } from '../../src/guest/kernel-error.js';
import { BASIC, type ElfSpec, makeElf, NOTE } from './make-elf.js';
import { type Built, build, guardsIntact, mfn, target } from './memory-of-domain.js';

const load = (spec: ElfSpec, rest: { cmdline?: string; ramdisk?: Uint8Array } = {}) =>
  loadImage({ kernel: makeElf(spec), cmdline: '', ...rest });
const domain = async (spec: ElfSpec, megabytes = 16, ramdisk?: Uint8Array): Promise<Built> =>
  build(await load(spec, { ramdisk }), target(megabytes));

describe('what a kernel declares about itself', () => {
  test('notes of other owners are ignored', async () => {
    const others = BASIC.map((n) => ({ ...n, owner: 'GNU' }));
    await expect(load({ notes: others })).rejects.toThrow(
      /no ELF note of owner "Xen" and no section __xen_guest/,
    );
    const wrong = { owner: 'Xem', type: NOTE.virtBase, value: 0x1000n };
    expect((await load({ notes: [wrong, ...BASIC] })).parameters.virtBase).toBe(0n);
  });

  test('notes in a section are used if no segment has any', async () => {
    const image = await load({
      notes: [...BASIC, { type: NOTE.guestOs, value: 'FreeBSD' }],
      notesIn: 'section',
    });
    expect(image.parameters.guestOs).toBe('FreeBSD');
  });

  test('the older section __xen_guest is text, with its own default physical offset, and counts pages from VIRT_BASE', async () => {
    const xenGuest =
      'GUEST_OS=netbsd,GUEST_VER=4.99,XEN_VER=xen-3.0,LOADER=generic,VIRT_BASE=0xffffffff80000000,VIRT_ENTRY=0xffffffff80100000,HYPERCALL_PAGE=0x00000101,FEATURES=writable_page_tables';
    const { parameters } = await load({
      xenGuest,
      load: [{ paddr: 0xffffffff80100000n, data: new Uint8Array(8192) }],
    });
    expect(parameters).toMatchObject({
      guestOs: 'netbsd',
      guestVersion: '4.99',
      paddrOffset: 0xffffffff80000000n,
      kernelStart: 0xffffffff80100000n,
      hypercallPage: 0xffffffff80101000n,
      supportedFeatures: 1,
    });
  });

  test('a required feature that is missing is named', async () => {
    const asks = (value: string) => load({ notes: [...BASIC, { type: NOTE.features, value }] });
    await expect(asks('!auto_translated_physmap')).rejects.toThrow(
      /requires the feature "auto_translated_physmap"/,
    );
    await expect(asks('writable_page_tables|!dom0')).rejects.toThrow(/requires the feature "dom0"/);
    await expect(asks('!time_travel')).rejects.toThrow(/requires the feature "time_travel"/);
    const image = await asks('!writable_page_tables|pae_pgdir_above_4gb|time_travel');
    expect(image.parameters).toMatchObject({ supportedFeatures: 0x11, requiredFeatures: 1 });
  });

  test('loader, operating system and version of Xen are checked', async () => {
    await expect(load({ notes: [BASIC[0], { type: NOTE.loader, value: 'own' }] })).rejects.toThrow(
      /LOADER is "own"/,
    );
    await expect(load({ notes: [BASIC[1], { type: NOTE.xenVersion, value: 'xen-2.0' }] })).rejects.toThrow(
      /"xen-2.0"/,
    );
    await expect(load({ notes: [BASIC[0], { type: NOTE.guestOs, value: 'linux' }] })).resolves.toBeDefined();
    await expect(load({ machine: 40 })).rejects.toThrow(/machine at offset 0x12 is 40/);
  });

  test('a kernel only for PVH guests is refused with that reason, and one for both is not', async () => {
    const phys32 = { type: NOTE.phys32Entry, value: 0x100_0080n };
    await expect(load({ notes: [phys32] })).rejects.toThrow(
      /a kernel for PVH guests only: .*PHYS32_ENTRY \(0x1000080\), and no LOADER "generic"/,
    );
    const linux = [BASIC[0], { type: NOTE.guestOs, value: 'linux' }, phys32];
    await expect(load({ notes: linux })).rejects.toThrow(/PVH guests only: .* no ENTRY or VIRT_BASE/);
    const both = [...linux, { type: NOTE.virtBase, value: 0n }];
    await expect(load({ notes: both })).resolves.toBeDefined();
  });

  test('the entry is taken from the note or else from the header, and must be in the kernel', async () => {
    const spec = { load: [{ paddr: 0x1000n, data: new Uint8Array(4096) }], entry: 0x1234n };
    expect((await load(spec)).parameters.entry).toBe(0x1234n);
    const noted = await load({ ...spec, notes: [...BASIC, { type: NOTE.entry, value: 0x1800n }] });
    expect(noted.parameters.entry).toBe(0x1800n);
    await expect(load({ ...spec, entry: 0x9000n })).rejects.toThrow(/entry 0x9000.*not in order/);
  });

  test('a note of four bytes is a number; one of three bytes is zero', async () => {
    const four = await load({
      load: [{ paddr: 0n, data: new Uint8Array(8192) }],
      notes: [...BASIC, { type: NOTE.entry, value: Uint8Array.of(0x10, 0, 0, 0) }],
    });
    expect(four.parameters.entry).toBe(0x10n);
    const three = await load({ notes: [...BASIC, { type: NOTE.entry, value: Uint8Array.of(0x10, 0, 0) }] });
    expect(three.parameters.entry).toBe(0n);
  });
});

describe('the memory of a new domain', () => {
  test('has the sizes of Linux 6.1 on real Xen 4.17: the ramdisk begins at 0x4c00000', async () => {
    // That Linux printed "RAMDISK: [mem 0x04c00000-0x052b3fff]" with 128 MB.
    const built = await domain(
      {
        entry: 0xffffffff83079000n,
        load: [
          { paddr: 0x1000000n, data: new Uint8Array(16) },
          { paddr: 0x3079000n, data: new Uint8Array(16), memsz: 0x1987000n },
        ],
        notes: [
          ...BASIC,
          { type: NOTE.virtBase, value: 0xffffffff80000000n },
          { type: NOTE.initP2m, value: 0x8000000000n },
          { type: NOTE.modStartPfn, value: 1n },
        ],
      },
      128,
      new Uint8Array(0x6b4000),
    );
    expect(built.layout.ramdisk!.pfn * 4096).toBe(0x4c00000);
    expect(built.layout.ramdisk!.pages * 4096).toBe(0x6b4000);
  });

  test('a gzip ramdisk is decompressed, and one that only looks like gzip is passed on unchanged', async () => {
    const data = new TextEncoder().encode('070701'.repeat(1000));
    expect((await load({}, { ramdisk: gzipSync(data) })).ramdisk).toEqual(data);
    const two = Buffer.concat([gzipSync(data), gzipSync('tail')]);
    expect(Buffer.compare((await load({}, { ramdisk: two })).ramdisk!, two)).toBe(0);
    const broken = gzipSync(data).subarray(0, 40);
    expect(Buffer.compare((await load({}, { ramdisk: broken })).ramdisk!, broken)).toBe(0);
  });

  test('INIT_P2M is used only below VIRT_BASE and on a page boundary', async () => {
    const at = (initP2m: bigint) =>
      load({
        notes: [
          ...BASIC,
          { type: NOTE.virtBase, value: 0x4000_0000n },
          { type: NOTE.initP2m, value: initP2m },
        ],
        entry: 0x4000_0000n,
      });
    expect((await at(0x1000n)).parameters.initP2m).toBe(0x1000n);
    expect((await at(0x1001n)).parameters.initP2m).toBeUndefined();
    expect((await at(0x8000_0000n)).parameters.initP2m).toBeUndefined();
  });

  test('a list of frames that can share upper tables with the kernel shares them', async () => {
    // Both are in the same 512 GiB, and in the same 1 GiB.
    const built = await domain({
      entry: 0x1000_0000n,
      notes: [
        ...BASIC,
        { type: NOTE.virtBase, value: 0x1000_0000n },
        { type: NOTE.initP2m, value: 0x800_0000n },
      ],
    });
    expect(built.layout.p2mFrames).toBe(8 + 1); // one table of the lowest level is all that is new
    for (const pfn of [0, 511, 512, 4095])
      expect(built.u64(0x800_0000n + 8n * BigInt(pfn))).toBe(BigInt(mfn(pfn)));
    expect(built.walk(0x1000_0000n)?.pfn).toBe(0);
  });

  test('a list of frames at addresses of Xen or at addresses that are not canonical is refused', async () => {
    const at = (initP2m: bigint) =>
      domain({
        entry: 0xffffffff80000000n,
        notes: [
          ...BASIC,
          { type: NOTE.virtBase, value: 0xffffffff80000000n },
          { type: NOTE.initP2m, value: initP2m },
        ],
      });
    await expect(at(0xffff800000000000n)).rejects.toThrow(
      /INIT_P2M 0xffff800000000000: these addresses are Xen's own/,
    );
    await expect(at(0x0000800000000000n)).rejects.toThrow(/not 8 pages of canonical addresses/);
    await expect(at(0x00007ffffffff000n)).rejects.toThrow(/not 8 pages of canonical addresses/);
    expect((await at(0xffff880000000000n)).u64(0xffff880000000008n)).toBe(BigInt(mfn(1)));
  });

  test('the hypercall page is filled where the kernel asks for one: a stub every 32 bytes', async () => {
    const built = await domain({
      load: [{ paddr: 0n, data: new Uint8Array(3 * 4096) }],
      notes: [...BASIC, { type: NOTE.hypercallPage, value: 0x2000n }],
    });
    expect(built.hypercallPage).toBe(2);
    const stub = (n: number): string => Buffer.from(built.at(0x2000n + BigInt(32 * n), 16)).toString('hex');
    expect(stub(0)).toBe('514153b8000000000f05415b59c3cccc');
    expect(stub(29)).toBe('514153b81d0000000f05415b59c3cccc');
    expect(stub(23)).toBe('51415350b8170000000f05cccccccccc');
    expect(stub(127)).toBe('514153b87f0000000f05415b59c3cccc');
  });

  test('a kernel without that note gets no hypercall page, and one outside the mapping is refused', async () => {
    expect((await domain({})).hypercallPage).toBeUndefined();
    await expect(
      domain({ notes: [...BASIC, { type: NOTE.hypercallPage, value: 0x10000000n }] }),
    ).rejects.toThrow(/HYPERCALL_PAGE 0x10000000 lies outside/);
  });

  test('a command line of 1023 bytes fits, one of 1024 is refused, in bytes and not in characters', async () => {
    const built = build(await load({}, { cmdline: 'x'.repeat(1023) }), target(16));
    const s = BigInt(built.rsi);
    expect(built.at(s + 128n, 1024)).toEqual(Uint8Array.from([...new Array(1023).fill(0x78), 0]));
    await expect(load({}, { cmdline: 'x'.repeat(1024) })).rejects.toThrow(
      /1024 bytes long; a guest takes 1023/,
    );
    await expect(load({}, { cmdline: 'ü'.repeat(512) })).rejects.toThrow(/1024 bytes long/);
  });

  test('the smallest memory that fits is accepted, and one page less is not', async () => {
    const image = await load({});
    const fits = (frames: number): boolean => {
      try {
        build(image, { ...target(16), ramFrames: frames });
        return true;
      } catch (e) {
        expect(e).toBeInstanceOf(KernelError);
        return false;
      }
    };
    expect(fits(1024)).toBe(true); // 4 MiB: all of it is mapped
    expect(fits(1023)).toBe(false);
  });

  test('a guest of 3 GiB is built in the address space that its kernel leaves free', async () => {
    const image = await load({
      entry: 0xffffffff80000000n,
      notes: [
        ...BASIC,
        { type: NOTE.virtBase, value: 0xffffffff80000000n },
        { type: NOTE.initP2m, value: 0x8000000000n },
      ],
    });
    const { planBootLayout } = await import('../../src/guest/boot-layout.js');
    const layout = planBootLayout(image.parameters, 3 * 262144, undefined);
    expect(layout.p2m.pages).toBe(1536);
    expect(layout.p2mFrames).toBe(1536 + 1 + 1 + 3);
  });
});

describe('a hostile kernel file', () => {
  const specs: ElfSpec[] = [
    {
      entry: 0xffffffff80100000n,
      load: [{ paddr: 0x100000n, data: new Uint8Array(64), memsz: 0x5000n }],
      notes: [
        ...BASIC,
        { type: NOTE.virtBase, value: 0xffffffff80000000n },
        { type: NOTE.initP2m, value: 0x8000000000n },
        { type: NOTE.hypercallPage, value: 0xffffffff80102000n },
        { type: NOTE.features, value: '!writable_page_tables' },
      ],
    },
    { notesIn: 'section', load: [{ paddr: 0x2000n, data: new Uint8Array(5000) }], entry: 0x2000n },
    { xenGuest: 'GUEST_OS=linux,XEN_VER=xen-3.0,VIRT_BASE=0x0,HYPERCALL_PAGE=0x0', entry: 0n },
  ];
  const files = specs.map(makeElf);

  test('after any change of the file, the guest is built within RAM or the file is refused with a message', async () => {
    const t = target(8);
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...files),
        fc.array(fc.tuple(fc.nat(1000), fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.nat(255))), {
          minLength: 1,
          maxLength: 6,
        }),
        fc.boolean(),
        async (file, changes, cut) => {
          const copy = Uint8Array.from(file);
          for (const [at, value] of changes) copy[at % copy.length] = value;
          const bytes = cut ? copy.subarray(0, changes[0][0] % copy.length) : copy;
          try {
            build(await loadImage({ kernel: bytes, cmdline: 'quiet' }), t);
          } catch (e) {
            if (!(e instanceof KernelError)) throw e;
            expect(e.message.length).toBeGreaterThan(10);
          }
        },
      ),
      { numRuns: 4000 },
    );
    expect(guardsIntact(t)).toBe(true);
  });
});
