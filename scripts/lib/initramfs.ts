// The test guest's initramfs: busybox, the Xen drivers and their dependencies, and init.sh.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { type CpioEntry, writeCpio } from '../../src/appliance/cpio.js';
import { moduleName, readModule } from './modules.js';
import { inRoot } from './root.js';

/** Modules that a guest may want to load; those that are built in are skipped. */
const MODULES = [
  'xenfs',
  'xen-evtchn',
  'xen-gntdev',
  'xen-gntalloc',
  'xen-privcmd',
  'xen-blkfront',
  'xen-netfront',
  'ext4',
  'crc32c_generic',
];

/** A module's path, and the paths of its dependencies. */
type Module = readonly [path: string, needs: readonly string[]];

/** Returns all modules that are wanted and their dependencies, from the lines of modules.dep. */
function closure(dep: string, wanted: readonly string[]): Module[] {
  const byName = new Map<string, Module>();
  for (const line of dep.trim().split('\n')) {
    const [path, needs] = line.split(':');
    byName.set(moduleName(path), [path, needs.trim().split(/\s+/).filter(Boolean)]);
  }
  const out = new Map<string, readonly string[]>();
  for (const name of wanted) {
    const found = byName.get(name.replaceAll('-', '_'));
    if (!found) continue;
    const [path, needs] = found;
    for (const d of needs) if (!out.has(d)) out.set(d, byName.get(moduleName(d))?.[1] ?? []);
    out.set(path, needs);
  }
  return [...out];
}

/** Links for each of busybox's programs; none if it does not run here (then init makes them itself). */
function applets(busybox: string): string[] {
  try {
    return execFileSync(busybox, ['--list'], { encoding: 'utf8' }).trim().split('\n');
  } catch {
    return [];
  }
}

export interface InitramfsParts {
  /** Path of a static x86-64 busybox. */
  readonly busybox: string;
  /** Path of a folder lib/modules/VERSION. */
  readonly modules?: string;
}

/** Returns a cpio archive, compressed by gzip. */
export async function makeInitramfs({ busybox, modules }: InitramfsParts): Promise<Uint8Array> {
  const init = readFileSync(inRoot('scripts/lib/init.sh'));
  const now = (program: string) => `#!/bin/sh\nexec /bin/busybox ${program} -f\n`;
  const entries: CpioEntry[] = [
    { path: 'dev/console', char: [5, 1] },
    ...['proc', 'sys', 'mnt', 'tmp', 'root', 'etc'].map((path) => ({ path, dir: true as const })),
    { path: 'init', mode: 0o755, data: init },
    { path: 'bin/busybox', mode: 0o755, data: readFileSync(busybox) },
    // The kernel runs these programs when the toolstack asks the guest to stop; there is no init daemon to signal.
    { path: 'sbin/poweroff', mode: 0o755, data: now('poweroff') },
    { path: 'sbin/reboot', mode: 0o755, data: now('reboot') },
    { path: 'sbin/halt', mode: 0o755, data: now('halt') },
    { path: 'sbin/modprobe', link: '../bin/busybox' }, // the kernel itself calls it by this path
    ...applets(busybox).map((name) => ({ path: `bin/${name}`, link: 'busybox' })),
  ];
  if (modules) {
    const to = `lib/modules/${basename(modules)}`;
    const list = closure(readFileSync(join(modules, 'modules.dep'), 'utf8'), MODULES);
    const plain = (path: string) => path.replace(/\.ko\.\w+$/, '.ko');
    const dep = list.map(([path, deps]) => `${plain(path)}: ${deps.map(plain).join(' ')}`.trim());
    for (const [path] of list)
      entries.push({ path: `${to}/${plain(path)}`, data: await readModule(join(modules, path)) });
    entries.push({ path: `${to}/modules.dep`, data: `${dep.join('\n')}\n` });
    if (readdirSync(modules).includes('modules.alias')) {
      const names = new Set(list.map(([path]) => moduleName(path)));
      const lines = readFileSync(join(modules, 'modules.alias'), 'utf8').split('\n');
      const ours = lines.filter((line) => names.has((line.split(' ')[2] ?? '').replaceAll('-', '_')));
      entries.push({ path: `${to}/modules.alias`, data: `${ours.join('\n')}\n` });
    }
  }
  return gzipSync(writeCpio(entries), { level: 6 });
}
