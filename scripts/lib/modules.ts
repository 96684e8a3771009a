// What depmod makes when a kernel is installed, for a kernel whose package was only unpacked.
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { unxz } from './xz.js';

interface ModuleInfo {
  readonly depends: readonly string[];
  readonly aliases: readonly string[];
}

/**
 * modules.dep is made by depmod when a kernel is installed; an unpacked package has none. The names a module
 * depends on stand in its own .modinfo section, and are turned into modules.dep's form here.
 */
export async function writeModulesDep(modules: string): Promise<void> {
  if (existsSync(join(modules, 'modules.dep'))) return;
  const files = readdirSync(modules, { recursive: true, encoding: 'utf8' }).filter((f) =>
    /\.ko(\.xz)?$/.test(f),
  );
  const name = (f: string) =>
    f
      .replace(/^.*\//, '')
      .replace(/\.ko.*$/, '')
      .replaceAll('-', '_');
  const byName = new Map(files.map((f) => [name(f), f]));
  const info = async (f: string): Promise<ModuleInfo> => {
    let bytes: Uint8Array = readFileSync(join(modules, f));
    if (f.endsWith('.xz')) bytes = await unxz(bytes);
    const text = Buffer.from(bytes).toString('latin1');
    const all = (key: string) => [...text.matchAll(new RegExp(`\\0${key}=([^\\0]*)`, 'g'))].map((m) => m[1]);
    return { depends: all('depends')[0]?.split(',').filter(Boolean) ?? [], aliases: all('alias') };
  };
  const known = new Map<string, ModuleInfo>();
  const look = async (f: string): Promise<ModuleInfo> => {
    const found = known.get(f) ?? (await info(f));
    known.set(f, found);
    return found;
  };
  const deep = async (f: string, seen = new Set<string>()): Promise<Set<string>> => {
    for (const n of (await look(f)).depends) {
      const d = byName.get(n.replaceAll('-', '_'));
      if (d && !seen.has(d)) {
        seen.add(d);
        await deep(d, seen);
      }
    }
    return seen;
  };
  // Only what a Xen guest could want: reading all four thousand modules would take a minute.
  const wanted = files.filter((f) => /xen|ext4|crc32c/.test(f));
  const all = new Set(wanted);
  for (const f of wanted) for (const d of await deep(f)) all.add(d);
  const dep: string[] = [];
  const alias: string[] = [];
  for (const f of all) {
    dep.push(`${f}: ${[...(await deep(f))].reverse().join(' ')}`.trim());
    for (const a of (await look(f)).aliases) alias.push(`alias ${a} ${name(f)}`);
  }
  for (const [name, lines] of [
    ['modules.alias', alias],
    ['modules.dep', dep],
  ] as const) {
    const temporary = join(modules, `${name}.${process.pid}`);
    writeFileSync(temporary, `${lines.join('\n')}\n`);
    renameSync(temporary, join(modules, name));
  }
}
