/** Debian's e2fsprogs with its libraries: to run here, and packed for a guest's initramfs. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { fetchDebian } from '../../scripts/lib/debian.js';
import { type CpioEntry, writeCpio } from '../../src/appliance/cpio.js';

const PACKAGES = ['e2fsprogs', 'libext2fs2', 'libcom-err2', 'libss2', 'libblkid1', 'libuuid1', 'libc6'];

export class E2fsprogs {
  private constructor(
    private readonly root: string,
    private readonly libraries: string,
  ) {}

  static async fetch(): Promise<E2fsprogs> {
    const root = await fetchDebian(PACKAGES);
    const libraries = ['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu'].map((d) => join(root, d));
    return new E2fsprogs(root, libraries.filter(existsSync).join(':'));
  }

  private program(name: string): string {
    return ['sbin', 'usr/sbin'].map((d) => join(this.root, d, name)).find(existsSync) as string;
  }
  private get loader(): string {
    return ['lib64', 'usr/lib64', 'lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu']
      .map((d) => join(this.root, d, 'ld-linux-x86-64.so.2'))
      .find((f) => existsSync(f)) as string;
  }

  /** Runs one of the programs on this machine. Returns its output. Throws if the exit status is not 0. */
  run(name: string, ...args: string[]): string {
    return execFileSync(this.loader, ['--library-path', this.libraries, this.program(name), ...args], {
      encoding: 'utf8',
      env: { ...process.env, MKE2FS_CONFIG: join(this.root, 'etc/mke2fs.conf') },
    });
  }

  /** A gzipped cpio archive to append to an initramfs: /sbin/mke2fs, /sbin/e2fsck, their libraries. */
  archive(): Uint8Array {
    const entries: CpioEntry[] = [
      ...['lib64', 'lib', 'lib/x86_64-linux-gnu', 'etc', 'sbin'].map((path) => ({
        path,
        dir: true as const,
      })),
      { path: 'lib64/ld-linux-x86-64.so.2', mode: 0o755, data: readFileSync(realpathSync(this.loader)) },
      { path: 'etc/mke2fs.conf', data: readFileSync(join(this.root, 'etc/mke2fs.conf')) },
    ];
    for (const name of ['mke2fs', 'e2fsck'])
      entries.push({ path: `sbin/${name}`, mode: 0o755, data: readFileSync(this.program(name)) });
    const seen = new Set<string>();
    for (const dir of this.libraries.split(':'))
      for (const file of readdirSync(dir)) {
        if (!/^lib(ext2fs|e2p|com_err|ss|blkid|uuid|c|pthread|dl)\.so\.\d+$/.test(file) || seen.has(file))
          continue;
        seen.add(file);
        const data = readFileSync(realpathSync(join(dir, file)));
        entries.push({ path: `lib/x86_64-linux-gnu/${file}`, mode: 0o755, data });
      }
    return gzipSync(writeCpio(entries), { level: 6 });
  }
}
