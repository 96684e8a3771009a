// Does for an unpacked kernel package what depmod does when a kernel is installed.
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { unxz } from './xz.js';

interface ModuleInfo {
  readonly depends: readonly string[];
  readonly aliases: readonly string[];
}

/** What the modules in a folder lib/modules/VERSION declare about themselves. */
class ModuleFolder {
  /** Paths relative to that folder. */
  readonly files: readonly string[];
  private readonly byName: ReadonlyMap<string, string>;
  private readonly known = new Map<string, ModuleInfo>();

  constructor(private readonly folder: string) {
    this.files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((f) =>
      /\.ko(\.xz)?$/.test(f),
    );
    this.byName = new Map(this.files.map((f) => [moduleName(f), f]));
  }

  /** Returns the path of a module, whose name may have `-` or `_`; undefined if it is built in or missing. */
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

  /** Adds a module to `seen` after everything that it depends on. */
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

/** Returns a module's own bytes, however it is compressed (Debian 12: not; 13: xz). */
export async function readModule(file: string): Promise<Uint8Array> {
  const bytes = readFileSync(file);
  return file.endsWith('.xz') ? unxz(bytes) : bytes;
}

/** Returns the kernel's name for the module in this file. */
export const moduleName = (path: string): string =>
  basename(path)
    .replace(/\.ko(\.\w+)?$/, '')
    .replaceAll('-', '_');

/**
 * Returns the paths, relative to lib/modules/VERSION, of the named modules and of their dependencies, in an order in
 * which they can be loaded. Modules that are built in have no file and are skipped.
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
 * Makes modules.dep, which depmod makes when a kernel is installed and which an unpacked package lacks. The names of a
 * module's dependencies are in its .modinfo section; they are put into the form of modules.dep here.
 */
export async function writeModulesDep(folder: string): Promise<void> {
  if (existsSync(join(folder, 'modules.dep'))) return;
  const modules = new ModuleFolder(folder);
  // Only modules that a Xen guest may want are read: reading all four thousand would take a minute.
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
