/**
 * Guests that boot from their own disks (docs/disks.md): with each kind of menu GRUB finds the kernel, which begins as after
 * a domain builder, with the command line of the menu and of the configuration. The kernel is a small program that prints
 * its command line and the size of its initial RAM disk in bytes, again and again, so that this takes seconds; Debian on many kinds of disks
 * is in soak/bootloader.ts.
 */
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ensureGrub } from '../../scripts/lib/grub.js';
import { type TestHost, TwoHosts, until } from '../migration/hosts.js';
import { orSkipped } from '../support/debian.js';
import { testPort } from '../support/ports.js';
import { programKernel } from '../support/program-kernel.js';
import { E2fsprogs } from './e2fsprogs.js';

const TIMEOUT_MS = 200_000;
const tools = await orSkipped(
  'booting from the disk',
  ensureGrub().then(() => E2fsprogs.fetch()),
);

/** The addresses of mod_len and of the command line are at 120 and 128 of start_info. */
const KERNEL = programKernel(`
once:
  lea rsi, [prefix]
  call print
  lea rsi, [r15+128]
  call print
  lea rsi, [middle]
  call print
  mov rax, [r15+120]
  call hex
  lea rsi, [newline]
  call print
  mov ebx, 100000
wait: mov edi, 0
  xor esi, esi
  mov eax, 29
  syscall
  dec ebx
  jnz wait
  jmp once
prefix: ascii "line=<"
db 0
middle: ascii "> ramdisk="
db 0
newline: db 10, 0
`);
/** As `elf` of the kernel says. */
const elf = (): Buffer => {
  const file = Buffer.from(KERNEL);
  file.writeUInt32LE(1, 20);
  return file;
};

describe.skipIf(tools === undefined)('GRUB in the guest', () => {
  let hosts: TwoHosts;
  let disks = 0;
  beforeAll(async () => {
    hosts = await TwoHosts.open(testPort(17_740), { runner: undefined });
  });
  afterAll(() => hosts?.close());
  afterEach(() => hosts.clear());

  /** An ext4 file system with these files and the kernel. */
  const disk = (files: Readonly<Record<string, string>>): string => {
    const root = join(hosts.root, `files${++disks}`);
    const put = (path: string, data: Uint8Array | string): void => {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), data);
    };
    put('boot/k', elf());
    put('boot/r', Buffer.alloc(5000, 'r'));
    for (const [path, text] of Object.entries(files)) put(path, text);
    const image = join(hosts.root, `disk${disks}.img`);
    writeFileSync(image, '');
    truncateSync(image, 4 << 20);
    tools!.run('mke2fs', '-q', '-F', '-t', 'ext4', '-O', '^has_journal', '-d', root, image);
    return image;
  };
  const create = (name: string, image: string, lines: string): Promise<unknown> => {
    const config = `name = "${name}"\nmemory = 32\ndisk = ['${image},raw,xvda,w']\n${lines}\n`;
    return hosts.a.ask('create', { config, file: `${name}.cfg`, directory: hosts.root });
  };
  const says = async (at: TestHost, name: string): Promise<[string, number]> => {
    const text = await at.consoleOf(name, '', /line=<.*> ramdisk=[0-9a-f]{16}/, 100);
    const [, line, bytes] = /line=<(.*)> ramdisk=([0-9a-f]{16})/.exec(text)!;
    return [line, Number.parseInt(bytes, 16)];
  };
  const PYGRUB = 'bootloader = "pygrub"';

  it.each([
    [
      'grub.cfg, with the saved entry',
      {
        'boot/grub/grub.cfg':
          'set default="$saved_entry"\nset timeout=0\nmenuentry one {\n linux /boot/k one\n}\nmenuentry two --id second {\n' +
          'insmod gzio\ninsmod part_msdos\nsearch --no-floppy --set=root --file /boot/k\nlinux /boot/k root=/dev/xvda ro "a b"\n initrd /boot/r\n}\n',
        'boot/grub/grubenv': `# GRUB Environment Block\nsaved_entry=second\n${'#'.repeat(962)}`,
      },
      'extra = "con=hvc0"',
      ['root=/dev/xvda ro "a b" con=hvc0', 8192],
    ],
    [
      "GRUB legacy's menu.lst, whose device is another",
      {
        'boot/grub/menu.lst':
          'default 1\ntimeout 0\ntitle no\n kernel /boot/none\ntitle yes\n root (hd0,0)\n kernel /boot/k root=/dev/xvda1 ro\n initrd /boot/r\n',
      },
      '',
      ['root=/dev/xvda1 ro', 8192],
    ],
    [
      'extlinux.conf',
      {
        'boot/extlinux.conf':
          'DEFAULT a\nTIMEOUT 1\nLABEL a\n KERNEL k\n APPEND quiet root=/dev/xvda\n INITRD r\n',
      },
      '',
      ['quiet root=/dev/xvda', 8192],
    ],
    [
      'entries of the Boot Loader Specification, and options after the kernel',
      {
        'boot/loader/entries/1-0-rescue.conf': 'title Rescue (x)\nlinux /boot/none\n',
        'boot/loader/entries/1-6.5.conf':
          'title Fedora Linux (6.5) 39\nversion 6.5\nlinux /boot/k\ninitrd /boot/r\noptions root=UUID=1 ro\ngrub_users $u\ngrub_arg --unrestricted\n',
      },
      'bootloader_args = ["-q"]',
      ['root=UUID=1 ro', 8192],
    ],
  ] as const)('%s', { timeout: TIMEOUT_MS }, async (_what, files, lines, expected) => {
    await create('disk', disk(files), `${PYGRUB}\n${lines}`);
    expect(await says(hosts.a, 'disk')).toEqual(expected);
  });

  it('the files that the configuration names, on a file system that begins where it says', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const image = disk({});
    writeFileSync(image, Buffer.concat([Buffer.alloc(1 << 20), readFileSync(image)]));
    const files = 'kernel = "/boot/k"\nramdisk = "/boot/r"\nextra = "x=1"';
    await create('at', image, `${PYGRUB}\n${files}\nbootloader_args = "--offset=1048576"`);
    expect(await says(hosts.a, 'at')).toEqual(['x=1', 8192]);
  });

  it('what is chosen from the menu during a move starts where the guest moves to, and moves on', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const menu = 'set timeout=-1\nmenuentry chosen {\n linux /boot/k 2\n initrd /boot/r\n}\n';
    await create('menu', disk({ 'boot/grub/grub.cfg': menu }), 'firmware = "pvgrub64"');
    await hosts.a.consoleOf('menu', '', /chosen/, 100);
    const moved = hosts.a.ask('migrate', { guest: 'menu', host: 'B', bandwidthMBs: 2 });
    const keys = { guest: 'menu', data: Buffer.from('\r').toString('base64') };
    await until('the move has begun', () => hosts.b.files('guests').length > 0 || undefined);
    // What is chosen while its memory is being sent waits for the end of the move; before, the move waits.
    const typing = setInterval(() => void hosts.a.ask('type', keys).catch(() => undefined), 100);
    await moved.finally(() => clearInterval(typing));
    expect(await says(hosts.b, 'menu')).toEqual(['2', 8192]);
    await hosts.b.ask('migrate', { guest: 'menu', host: 'A' });
    expect(await says(hosts.a, 'menu')).toEqual(['2', 8192]);
  });

  it('a file that is no kernel is a crash, which says so', { timeout: TIMEOUT_MS }, async () => {
    const image = disk({ 'boot/grub/grub.cfg': 'linux /boot/grub/grub.cfg\nboot\n' });
    await create('none', image, `${PYGRUB}\non_crash = "preserve"`);
    const words = 'neither an ELF file nor a bzImage';
    await until('it has crashed', async () => (hosts.a.log().includes(words) ? true : undefined), 60);
  });
});
