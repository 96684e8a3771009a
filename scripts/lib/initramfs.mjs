// The test guest's initramfs: busybox, the Xen drivers with what they depend on, and init.sh.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { writeCpio } from './cpio.mjs';
import { unxz } from './xz.mjs';

/** What a guest may want to load; built-in ones are passed over. */
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

const moduleName = (path) =>
  basename(path)
    .replace(/\.ko(\.\w+)?$/, '')
    .replaceAll('-', '_');

/** Every module that is wanted or depended on: [path, paths it depends on], from modules.dep's lines. */
function closure(dep, wanted) {
  const lines = dep
    .trim()
    .split('\n')
    .map((line) => line.split(':'));
  const byName = new Map(lines.map(([path, deps]) => [moduleName(path), [path, deps.trim().split(/\s+/)]]));
  const out = new Map();
  for (const name of wanted) {
    const found = byName.get(name.replaceAll('-', '_'));
    if (!found) continue;
    const [path, deps] = found;
    for (const d of deps.filter(Boolean)) if (!out.has(d)) out.set(d, byName.get(moduleName(d))[1]);
    out.set(path, deps);
  }
  return [...out].map(([path, deps]) => [path, deps.filter(Boolean)]);
}

/** A module's own bytes, whatever it is packed with (Debian 12: not; 13: xz). */
async function readModule(file) {
  const bytes = readFileSync(file);
  return file.endsWith('.xz') ? unxz(bytes) : bytes;
}

/** Links for each of busybox's programs; none where it does not run here (init then makes them itself). */
function applets(busybox) {
  try {
    return execFileSync(busybox, ['--list'], { encoding: 'utf8' }).trim().split('\n');
  } catch {
    return [];
  }
}

/**
 * @param {{ busybox: string, modules?: string }} from files; `modules` is a lib/modules/VERSION folder
 * @returns {Promise<Uint8Array>} gzipped cpio
 */
export async function makeInitramfs({ busybox, modules }) {
  const init = readFileSync(fileURLToPath(new URL('init.sh', import.meta.url)));
  const now = (program) => `#!/bin/sh\nexec /bin/busybox ${program} -f\n`;
  const entries = [
    { path: 'dev/console', char: [5, 1] },
    ...['proc', 'sys', 'mnt', 'tmp', 'root', 'etc'].map((path) => ({ path, dir: true })),
    { path: 'init', mode: 0o755, data: init },
    { path: 'bin/busybox', mode: 0o755, data: readFileSync(busybox) },
    // The kernel runs these when the toolstack asks the guest to stop; there is no init daemon to signal.
    { path: 'sbin/poweroff', mode: 0o755, data: now('poweroff') },
    { path: 'sbin/reboot', mode: 0o755, data: now('reboot') },
    { path: 'sbin/halt', mode: 0o755, data: now('halt') },
    { path: 'sbin/modprobe', link: '../bin/busybox' }, // the kernel itself calls it by this path
    ...applets(busybox).map((name) => ({ path: `bin/${name}`, link: 'busybox' })),
  ];
  if (modules) {
    const to = `lib/modules/${basename(modules)}`;
    const list = closure(readFileSync(join(modules, 'modules.dep'), 'utf8'), MODULES);
    const plain = (path) => path.replace(/\.ko\.\w+$/, '.ko');
    const dep = list.map(([path, deps]) => `${plain(path)}: ${deps.map(plain).join(' ')}`.trim());
    for (const [path] of list)
      entries.push({ path: `${to}/${plain(path)}`, data: await readModule(join(modules, path)) });
    entries.push({ path: `${to}/modules.dep`, data: `${dep.join('\n')}\n` });
    if (readdirSync(modules).includes('modules.alias')) {
      const names = new Set(list.map(([path]) => moduleName(path)));
      const lines = readFileSync(join(modules, 'modules.alias'), 'utf8').split('\n');
      const ours = lines.filter((line) => names.has(line.split(' ')[2]?.replaceAll('-', '_')));
      entries.push({ path: `${to}/modules.alias`, data: `${ours.join('\n')}\n` });
    }
  }
  return gzipSync(writeCpio(entries), { level: 6 });
}
