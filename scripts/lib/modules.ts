// What depmod makes when a kernel is installed, for a kernel whose package was only unpacked.
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { unxz } from './xz.js';

interface ModuleInfo {
  readonly depends: readonly string[];
  readonly aliases: readonly string[];
}

/** What the modules of a lib/modules/VERSION folder say of themselves. */
class ModuleFolder {
  /** Paths from the folder. */
  readonly files: readonly string[];
  private readonly byName: ReadonlyMap<string, string>;
  private readonly known = new Map<string, ModuleInfo>();

  constructor(private readonly folder: string) {
    this.files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((f) =>
      /\.ko(\.xz)?$/.test(f),
    );
    this.byName = new Map(this.files.map((f) => [moduleName(f), f]));
  }

  /** The path of a module, which may be named with `-` or `_`; undefined where it is built in, or not there. */
  find(name: string): string | undefined {
    return this.byName.get(name.replaceAll('-', '_'));
  }

  async look(file: string): Promise<ModuleInfo> {
    const known = this.known.get(file);
    if (known !== undefined) return known;
    const text = Buffer.from(await readModule(join(this.folder, file))).toString('latin1');
    const all = (key: string) => [...text.matchAll(new RegExp(`\\0${key}=([^\\0]*)`, 'g'))].map((m) => m[1]);
    const info = { depends: all('depends')[0]?.split(',').filter(Boolean) ?? [], aliases: all('alias') };
    this.known.set(file, info);
    return info;
  }

  /** All that a module depends on, added to `seen` before those that depend on them. */
  async needs(file: string, seen = new Set<string>()): Promise<Set<string>> {
    for (const name of (await this.look(file)).depends) {
      const found = this.find(name);
      if (found === undefined || seen.has(found)) continue;
      await this.needs(found, seen);
      seen.add(found);
    }
    return seen;
  }
}

/** A module's own bytes, whatever it is packed with (Debian 12: not; 13: xz). */
export async function readModule(file: string): Promise<Uint8Array> {
  const bytes = readFileSync(file);
  return file.endsWith('.xz') ? unxz(bytes) : bytes;
}

/** The name by which the kernel knows the module in this file. */
export const moduleName = (path: string): string =>
  basename(path)
    .replace(/\.ko(\.\w+)?$/, '')
    .replaceAll('-', '_');

/**
 * The paths, from the folder lib/modules/VERSION, of the named modules and of all that they depend on, in an order in
 * which they can be loaded. Those that are built in have no file and are passed over.
 */
export async function modulesInOrder(folder: string, names: readonly string[]): Promise<string[]> {
  const modules = new ModuleFolder(folder);
  const order = new Set<string>();
  for (const name of names) {
    const file = modules.find(name);
    if (file === undefined) continue;
    await modules.needs(file, order);
    order.add(file);
  }
  return [...order];
}

/**
 * modules.dep is made by depmod when a kernel is installed; an unpacked package has none. The names a module
 * depends on stand in its own .modinfo section, and are turned into modules.dep's form here.
 */
export async function writeModulesDep(folder: string): Promise<void> {
  if (existsSync(join(folder, 'modules.dep'))) return;
  const modules = new ModuleFolder(folder);
  // Only what a Xen guest could want: reading all four thousand modules would take a minute.
  const wanted = modules.files.filter((f) => /xen|ext4|crc32c/.test(f));
  const all = new Set(wanted);
  for (const f of wanted) for (const d of await modules.needs(f)) all.add(d);
  const dep: string[] = [];
  const alias: string[] = [];
  for (const f of all) {
    dep.push(`${f}: ${[...(await modules.needs(f))].join(' ')}`.trim());
    for (const a of (await modules.look(f)).aliases) alias.push(`alias ${a} ${moduleName(f)}`);
  }
  for (const [name, lines] of [
    ['modules.alias', alias],
    ['modules.dep', dep],
  ] as const) {
    const temporary = join(folder, `${name}.${process.pid}`);
    writeFileSync(temporary, `${lines.join('\n')}\n`);
    renameSync(temporary, join(folder, name));
  }
}
