/**
 * Compares every offset, size, type and constant in this folder with Xen's own headers: a C program that includes them
 * is generated, compiled and run, and its output is compared.
 *
 * The headers are those of Debian's libxen-dev (4.17), installed or downloaded with apt; the compiler is cc, gcc or
 * clang if there is one, else Debian's tcc. Without them the checks are skipped with a message; where CI is set they
 * fail.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { fetchDebian, NoPackages } from '../../scripts/lib/debian.js';
import { XEN_EMULATE_PREFIX } from './cpuid.js';
import { type Fields, type StructLayout, scalarOf } from './struct.js';
import { XSD_ERRORS } from './xs-wire.js';

/** Constants of our own or of another standard: no header of Xen's public ABI has them, which a test below checks. */
const OWN = new Set(
  `NR_HYPERCALL_STUBS ERESTART START_INFO_MAGIC TI_DPL_MASK TI_IF XEN_RUNSTATE_UPDATE_BIT
  MMU_UPDATE_COMMAND_MASK MEMOP_EXTENT_SHIFT MEMOP_CMD_MASK
  E820_RAM E820_RESERVED E820_ACPI E820_NVS E820_UNUSABLE
  BLKIF_SEGMENTS_PER_INDIRECT_PAGE BLKIF_SECTOR_SIZE XENCONS_IN_SIZE XENCONS_OUT_SIZE XEN_ELFNOTE_OWNER
  PTE_PRESENT PTE_RW PTE_USER PTE_PWT PTE_PCD PTE_ACCESSED PTE_DIRTY PTE_PSE PTE_PAT PTE_GLOBAL PTE_AVAIL
  PTE_GUEST_KERNEL_HI PTE_NX_HI PTE_FRAME_HI_MASK PAGE_SHIFT PAGE_SIZE ENTRIES_PER_TABLE
  HYPERVISOR_L4_FIRST HYPERVISOR_L4_END FLAT_RING0_CS64
  XEN_CPUID_TIME_VTSC TSC_MODE_DEFAULT TSC_MODE_ALWAYS_EMULATE TSC_MODE_NEVER_EMULATE
  XENCONS_CONNECTION XC_CORE_MAGIC XEN_DUMPCORE_FORMAT_VERSION`.split(/\s+/),
);
/** Newer than Debian's headers: checked only where the headers have them. */
const NEWER = new Set(
  `VCPUOP_register_runstate_phys_area VCPUOP_register_vcpu_time_phys_area
  XENFEAT_runstate_phys_area XENFEAT_vcpu_time_phys_area XENFEAT_dm_msix_all_writes
  XENCONSOLE_CONNECTED XENCONSOLE_DISCONNECTED
  XS_GET_FEATURE XS_SET_FEATURE XS_GET_QUOTA XS_SET_QUOTA XENSTORE_SERVER_FEATURE_WATCHDEPTH`.split(/\s+/),
);
/** A constant that grows with the version. */
const VERSION_DEPENDENT = new Set(['XS_TYPE_COUNT']);
/** The BIOS's, and those of a core: no public header has them. */
const OWN_STRUCTS = new Set([
  'e820entry',
  'elfnote',
  'xen_dumpcore_elfnote_header_desc',
  'xen_dumpcore_elfnote_xen_version_desc',
  'xen_dumpcore_p2m',
]);

const PRELUDE = `
#include <stdint.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <errno.h> /* the C library's: xs_wire.h has its table of names only after it */
#undef ERESTART /* and this one is not Xen's */
#define mb() 
#define rmb() 
#define wmb() 
#define __XEN_INTERFACE_VERSION__ __XEN_LATEST_INTERFACE_VERSION__
#ifdef AS_X86_32 /* where a 64-bit integer is aligned to 4 bytes */
#pragma pack(4)
#endif
#include <xen/xen.h>
#include <xen/errno.h>
#include <xen/vcpu.h>
#include <xen/sched.h>
#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/memory.h>
#include <xen/version.h>
#include <xen/features.h>
#include <xen/physdev.h>
#include <xen/callback.h>
#include <xen/nmi.h>
#include <xen/elfnote.h>
#include <xen/pmu.h>
#include <xen/arch-x86/cpuid.h>
#include <xen/arch-x86/xen-mca.h>
#include <xen/io/ring.h>
#ifdef AS_X86_32
#define __i386__ 1 /* blkif.h pads one request there */
#endif
#include <xen/io/blkif.h>
#ifdef AS_X86_32
#undef __i386__
#endif
#include <xen/io/netif.h>
#include <xen/io/console.h>
#include <xen/io/xs_wire.h>
#include <xen/io/xenbus.h>
#include <xen/io/protocols.h>
typedef struct {} nothing;
DEFINE_RING_TYPES(stillpoint, nothing, nothing);
#define SIGNED(x) ((__typeof__(x))-1 < 0)
`;

const folder = fileURLToPath(new URL('.', import.meta.url));

interface Declared {
  constants: Map<string, number | string>;
  structs: { layout: StructLayout; sizeof: number; x86_32: boolean; offsets: Record<string, number> }[];
}

async function declared(): Promise<Declared> {
  const found: Declared = { constants: new Map(), structs: [] };
  for (const file of readdirSync(folder)) {
    if (!file.endsWith('.ts') || file.endsWith('.test.ts')) continue;
    const module: Record<string, unknown> = await import(join(folder, file));
    for (const [name, value] of Object.entries(module)) {
      if (typeof value === 'number' || typeof value === 'string') {
        found.constants.set(file === 'errno.ts' && !OWN.has(name) ? `XEN_${name}` : name, value);
      } else if (typeof value === 'object' && value !== null && 'layout' in value) {
        const struct = value as { layout: StructLayout; sizeof: number } & Record<string, number>;
        found.structs.push({
          layout: struct.layout,
          sizeof: struct.sizeof,
          x86_32: name.endsWith('X86_32'),
          offsets: struct,
        });
      }
    }
  }
  return found;
}

/** The directory of `xen/xen.h`, or the reason why there is none. */
async function includeFolder(): Promise<{ folder: string } | { problem: string }> {
  if (existsSync('/usr/include/xen/xen.h')) return { folder: '/usr/include' };
  try {
    return { folder: join(await fetchDebian(['libxen-dev']), 'usr', 'include') };
  } catch (error) {
    if (error instanceof NoPackages) return { problem: error.message };
    throw error;
  }
}

const include = await includeFolder();

/** A compiler with its options, either one that runs a program with `-run FILE`, or one that makes a file. */
interface Compiler {
  readonly file: string;
  readonly options: readonly string[];
  readonly runs: boolean;
}

async function findCompiler(): Promise<Compiler | { problem: string }> {
  const installed = ['cc', 'gcc', 'clang'].find((name) => spawnSync(name, ['--version']).status === 0);
  if (installed !== undefined) return { file: installed, options: ['-std=gnu11', '-w'], runs: false };
  try {
    const usr = join(await fetchDebian(['tcc', 'libc6-dev', 'linux-libc-dev']), 'usr');
    const own = join(usr, 'lib/x86_64-linux-gnu/tcc');
    const folders = [join(own, 'include'), join(usr, 'include'), join(usr, 'include/x86_64-linux-gnu')];
    return {
      file: join(usr, 'bin/tcc'),
      options: [`-B${own}`, '-nostdinc', '-w', ...folders.map((f) => `-I${f}`)],
      runs: true,
    };
  } catch (error) {
    if (error instanceof NoPackages) return { problem: error.message };
    throw error;
  }
}

const compiler = await findCompiler();
const missing = [
  ...('problem' in include ? [`Xen's headers: ${include.problem}`] : []),
  ...('problem' in compiler ? [`a C compiler: ${compiler.problem}`] : []),
];

/** Compiles a program and, with `run`, runs it. Returns the output of the program or of the compiler. */
function compile(source: string, x86_32: boolean, run: boolean): { ok: boolean; said: string } {
  const folder = mkdtempSync(join(tmpdir(), 'stillpoint-headers-'));
  const file = join(folder, 'ask.c');
  const program = join(folder, 'ask');
  const { file: cc, options, runs } = compiler as Compiler;
  const all = [
    ...options,
    ...('folder' in include && include.folder !== '/usr/include' ? ['-isystem', include.folder] : []),
    ...(x86_32 ? ['-DAS_X86_32'] : []),
  ];
  const go = (name: string, args: readonly string[]): { ok: boolean; said: string } => {
    const { status, stdout, stderr } = spawnSync(name, args, {
      encoding: 'utf8',
      env: { ...process.env, LC_ALL: 'C' },
    });
    return { ok: status === 0, said: status === 0 ? stdout : stderr };
  };
  try {
    writeFileSync(file, source);
    if (!run) return go(cc, [...all, '-c', '-o', program, file]);
    if (runs) return go(cc, [...all, '-run', file]);
    const made = go(cc, [...all, '-o', program, file]);
    return made.ok ? go(program, []) : made;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Returns those of these names that no header declares. A compiler may stop at the first one. */
function undeclared(names: Iterable<string>): Set<string> {
  const absent = new Set<string>();
  for (;;) {
    const left = [...names].filter((name) => !absent.has(name));
    const source = `${PRELUDE}int main(void) {\n${left.map((n) => `(void)(${n});`).join('\n')}\n}\n`;
    const { ok, said } = compile(source, false, false);
    if (ok) return absent;
    const found = [...said.matchAll(/'(\w+)' undeclared|undeclared identifier '(\w+)'/g)];
    if (found.length === 0) throw new Error(said);
    for (const [, gcc, clang] of found) absent.add(gcc ?? clang);
  }
}

/** Compiles and runs statements that print lines `key value`. */
function ask(statements: string[], x86_32: boolean): Map<string, string> {
  const source = `${PRELUDE}int main(void) {\n${statements.join('\n')}\nreturn 0;\n}\n`;
  const { ok, said } = compile(source, x86_32, true);
  if (!ok) throw new Error(said);
  const lines = said.trimEnd().split('\n');
  return new Map(lines.map((line) => [line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)]));
}

const printed = (key: string, c: string) => `printf("${key} %lld\\n", (long long)(${c}));`;

/** The questions about the fields of a structure, and what our table answers. */
function questions(name: string, sizeof: number, fields: Fields): { key: string; c: string; ours: number }[] {
  const asked = [{ key: `${name}:sizeof`, c: `sizeof(struct ${name})`, ours: sizeof }];
  for (const [field, [offset, type, path = field]] of Object.entries(fields)) {
    const key = `${name}.${field}`;
    const c = `((struct ${name} *)0)->${path}`;
    asked.push({ key: `${key}:offset`, c: `(size_t)&${c}`, ours: offset });
    const scalar = scalarOf(type);
    if (scalar === undefined) {
      const [element, count] = type.replace(']', '').split('[');
      asked.push({ key: `${key}:bytes`, c: `sizeof(${c}) == ${count ?? 1} * sizeof(${element})`, ours: 1 });
      continue;
    }
    // A flexible array has no size of its own; its element has one.
    const array = type.includes('[');
    const flexible = array && scalar.count === 1;
    asked.push({ key: `${key}:bytes`, c: flexible ? `sizeof(${c}[0])` : `sizeof(${c})`, ours: scalar.bytes });
    if (scalar.scalar !== 'ptr' && scalar.scalar !== 'char') {
      const signed = scalar.scalar.startsWith('s') ? 1 : 0;
      asked.push({ key: `${key}:signed`, c: `SIGNED(${c}${array ? '[0]' : ''})`, ours: signed });
    }
  }
  return asked;
}

if (missing.length > 0) console.warn(`stillpoint: not tested against Xen's headers: ${missing.join('; ')}`);

test.runIf(process.env['CI'])(
  "Xen's headers and a C compiler are available, so that the ABI is checked",
  () => {
    expect(missing).toEqual([]);
  },
);

describe.skipIf(missing.length > 0)("Xen's headers", () => {
  test('every structure has the size, offsets and types of its header', async () => {
    const { structs } = await declared();
    expect(structs.length).toBeGreaterThan(70);
    for (const x86_32 of [false, true]) {
      const asked = structs
        .filter((s) => s.x86_32 === x86_32 && !OWN_STRUCTS.has(s.layout.name))
        .flatMap((s) => questions(s.layout.name, s.sizeof, s.layout.fields));
      const theirs = ask(
        asked.map(({ key, c }) => printed(key, c)),
        x86_32,
      );
      const ours = Object.fromEntries(asked.map(({ key, ours }) => [key, String(ours)]));
      expect(ours).toEqual(Object.fromEntries(theirs));
    }
  });

  test('every constant has the value of its header', async () => {
    const { constants } = await declared();
    const absent = undeclared(NEWER);
    const asked = [...constants].filter(
      ([name]) => !OWN.has(name) && !absent.has(name) && !VERSION_DEPENDENT.has(name),
    );
    expect(asked.length).toBeGreaterThan(450);
    const theirs = ask(
      asked.map(([name, value]) =>
        typeof value === 'string' ? `printf("${name} %s\\n", ${name});` : printed(name, name),
      ),
      false,
    );
    const ours = Object.fromEntries(asked.map(([name, value]) => [name, String(value)]));
    expect(ours).toEqual(Object.fromEntries(theirs));
  });

  test('no constant of the headers is listed among our own', async () => {
    const { constants } = await declared();
    expect([...OWN].filter((name) => !constants.has(name))).toEqual([]);
    expect([...NEWER].filter((name) => !constants.has(name))).toEqual([]);
    const absent = undeclared(OWN);
    expect([...OWN].filter((name) => !absent.has(name))).toEqual([]);
  });

  test('the names of xenstore errors and the bytes of the emulation prefix are those of the headers', () => {
    const table =
      'for (size_t i = 0; i < sizeof(xsd_errors) / sizeof(*xsd_errors); i++) printf("%zu %s\\n", i, xsd_errors[i].errstring);';
    expect([...XSD_ERRORS]).toEqual([...ask([table], false).values()]);
    const prefix = ask(['printf("prefix %s\\n", XEN_EMULATE_PREFIX);'], false).get('prefix')!;
    expect(XEN_EMULATE_PREFIX).toEqual(prefix.match(/0x../g)!.map(Number));
  });

  test('a field that is off by one byte is detected', () => {
    const [, offset] = questions('vcpu_info', 64, { evtchn_upcall_mask: [2, 'u8'] });
    const theirs = ask([printed('at', offset.c)], false);
    expect(theirs.get('at')).toBe('1');
    expect(offset.ours).toBe(2);
  });
});

test('a structure has the offset of each field as a number', async () => {
  for (const { layout, offsets } of (await declared()).structs) {
    for (const [field, [offset]] of Object.entries(layout.fields)) expect(offsets[field]).toBe(offset);
  }
});
