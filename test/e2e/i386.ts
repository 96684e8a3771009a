/**
 * Debian's i386 programs, and scripts for them whose output shows whether they work: here natively, there in a guest.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { fetchDebian } from '../../scripts/lib/debian.js';
import { inRoot } from '../../scripts/lib/root.js';
import { type CpioEntry, writeCpio } from '../../src/appliance/cpio.js';

const I386 = { architecture: 'i386' };
const LIBRARIES = 'lib/i386-linux-gnu';

const script = (name: string): string => readFileSync(inRoot(`test/e2e/i386/${name}`), 'utf8');

export interface Program {
  readonly name: string;
  /** The command in the guest's shell. */
  readonly command: string;
  /** What it prints natively; undefined where this machine runs no i386 programs. */
  readonly wanted: string | undefined;
}

/** Returns what a program prints here. */
function natively(program: string, args: readonly string[], input: string, env = {}): string | undefined {
  const r = spawnSync(program, args, { input, encoding: 'latin1', env: { PATH: '/bin:/usr/bin', ...env } });
  if (r.error !== undefined || (r.status !== 0 && /Exec format/.test(r.stderr))) return undefined;
  return r.stdout;
}

/** Returns all regular files of a folder, by their path in it. */
function filesOf(root: string, folder: string): CpioEntry[] {
  const dir = join(root, folder);
  if (!existsSync(dir)) return [];
  return readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((file) => statSync(join(dir, file)).isFile())
    .map((file) => ({
      path: join(folder, file).replace(/^usr\/(lib\/i386-linux-gnu\/[^/]*$)/, '$1'),
      mode: 0o755,
      data: readFileSync(join(dir, file)),
    }));
}

/** Returns busybox, and with `all` bash and perl; makes a ramdisk at `to` that has them in addition to `initramfs`. */
export async function i386Programs(all: boolean, initramfs: string, to: string): Promise<Program[]> {
  const small = await fetchDebian(['busybox-static'], I386);
  const busybox = ['bin/busybox', 'usr/bin/busybox'].map((f) => join(small, f)).find(existsSync)!;
  const entries: CpioEntry[] = [{ path: 'i386/busybox', mode: 0o755, data: readFileSync(busybox) }];
  // The script runs its own programs, not those on the shell's path.
  const applets = [
    'sort',
    'head',
    'tr',
    'seq',
    'md5sum',
    'awk',
    'gzip',
    'gunzip',
    'sha256sum',
    'sed',
    'grep',
    'wc',
    'date',
  ];
  const own = (self: string): string => `${applets.map((a) => `${a}() { ${self} ${a} "$@"; }`).join('; ')}\n`;
  const programs: Program[] = [
    {
      name: 'busybox',
      command: '/i386/busybox sh /i386/busybox.sh',
      wanted: natively(busybox, ['sh'], own(busybox) + script('busybox.sh')),
    },
  ];
  entries.push({ path: 'i386/busybox.sh', data: own('/i386/busybox') + script('busybox.sh') });
  if (all) {
    const root = await fetchDebian(['bash', 'libc6', 'libtinfo6', 'perl-base', 'libcrypt1'], I386);
    const find = (...names: string[]): string => names.map((f) => join(root, f)).find(existsSync)!;
    const loader = find(`${LIBRARIES}/ld-linux.so.2`, `usr/${LIBRARIES}/ld-linux.so.2`);
    const modules = join(root, 'usr', LIBRARIES, 'perl-base');
    const path = [join(root, LIBRARIES), join(root, 'usr', LIBRARIES)].join(':');
    for (const [name, file, text, env] of [
      ['bash', find('bin/bash', 'usr/bin/bash'), script('bash.sh'), {}],
      ['perl', find('usr/bin/perl'), script('perl.pl'), { PERL5LIB: modules }],
    ] as const) {
      entries.push({ path: `i386/${name}`, mode: 0o755, data: readFileSync(file) });
      entries.push({ path: `i386/${name}.script`, data: text });
      programs.push({
        name,
        command: `/i386/${name} /i386/${name}.script`,
        wanted: natively(loader, ['--library-path', path, file], text, env),
      });
    }
    entries.push({ path: 'lib/ld-linux.so.2', mode: 0o755, data: readFileSync(loader) });
    entries.push(...filesOf(root, LIBRARIES), ...filesOf(root, `usr/${LIBRARIES}`));
  }
  writeFileSync(to, Buffer.concat([readFileSync(initramfs), gzipSync(writeCpio(entries))]));
  return programs;
}
