/**
 * The configuration of one guest, from the settings of an xl.cfg file, with xl's meanings and defaults.
 *
 * Invariant: every setting of the file is used, or gives a warning because it cannot matter to a PV guest here, or is
 * refused with file, line and column. No setting is silently ignored.
 * Source: Xen, docs/man/xl.cfg.5.pod, tools/xl/xl_parse.c (parse_config_data).
 */

import type { DiskSpec } from '../protocol/guest-config.js';
import { nameFault } from '../protocol/name.js';
import { parseDisk, sharedImage, sharingFault } from './disk-spec.js';
import { parseVif, type VifSpec } from './vif-spec.js';
import { ConfigError, type ConfigFile, type ConfigValue, type Position, parseConfig } from './xl-cfg.js';

type EndAction = 'destroy' | 'restart' | 'preserve';

export interface XlConfig {
  readonly name: string;
  /** 36 characters in lower case, or undefined: one will be made up. */
  readonly uuid: string | undefined;
  /** The path as written in the file. The caller resolves relative paths. */
  readonly kernel: string;
  readonly ramdisk: string | undefined;
  readonly cmdline: string;
  readonly memoryKib: number;
  readonly maxMemoryKib: number;
  readonly vcpus: number;
  readonly maxVcpus: number;
  readonly disks: readonly DiskSpec[];
  readonly vifs: readonly VifSpec[];
  readonly onPoweroff: EndAction;
  readonly onReboot: EndAction;
  readonly onCrash: EndAction;
  /** Our own setting: whether the guest's clocks go on while it is stopped. */
  readonly clock: 'elapse' | 'freeze';
  /** Each warning contains file and line. */
  readonly warnings: readonly string[];
}

interface ConfigLimits {
  readonly maxMemoryMib: number;
  readonly maxVcpus: number;
}

/** The limits of the container: 8 vCPUs, and RAM within the 4 GiB of one linear memory. */
export const LIMITS: ConfigLimits = { maxMemoryMib: 3000, maxVcpus: 8 };

/** libxl's default if the file has no `memory`, in MiB. */
const DEFAULT_MEMORY_MIB = 32;
const ACTIONS = ['destroy', 'restart', 'preserve'] as const;
const ALL_ACTIONS = [...ACTIONS, 'rename-restart', 'coredump-destroy', 'coredump-restart', 'soft-reset'];

/** Settings that xl itself ignores for a PV guest, and hints about where the guest should run. */
const NO_EFFECT = new Set(
  'acpi acpi_s3 acpi_s4 apic boot cpu_weight cpus cpus_soft hap hpet nx pae pool serial stdvga viridian xen_platform_pci'.split(
    ' ',
  ),
);

class Settings {
  readonly used = new Set<string>();
  readonly warnings: string[] = [];

  constructor(readonly config: ConfigFile) {}

  at(position: Position): string {
    return `${this.config.file}:${position.line}:${position.column}`;
  }
  /** "FILE:LINE:COLUMN" of a setting; "FILE" if it is not set. */
  positionOf(name: string): string {
    const setting = this.config.settings.get(name);
    return setting === undefined ? this.config.file : this.at(setting);
  }
  fail(position: Position, message: string): never {
    throw new ConfigError(`${this.at(position)}: ${message}`);
  }
  refuse(name: string, message: string): never {
    throw new ConfigError(`${this.positionOf(name)}: ${message}`);
  }
  warn(position: Position, message: string): void {
    this.warnings.push(`${this.at(position)}: ${message}`);
  }

  value(name: string): ConfigValue | undefined {
    this.used.add(name);
    return this.config.settings.get(name)?.value;
  }
  text(name: string): string | undefined {
    const value = this.value(name);
    if (value === undefined) return undefined;
    if (value.kind === 'list') return this.fail(value, `${name} is a list but should be a single value`);
    return value.text;
  }
  list(name: string): readonly (Position & { text: string })[] {
    const value = this.value(name);
    if (value === undefined) return [];
    if (value.kind === 'text') return this.fail(value, `${name} is a single value but should be a list`);
    return value.items.map((item) =>
      item.kind === 'text' ? item : this.fail(item, `${name} has a list in it where a string should be`),
    );
  }
  /** Parses a whole number in C's notation: decimal, hexadecimal with 0x, octal with 0. */
  whole(name: string, low: number, high: number): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const setting = this.config.settings.get(name)!;
    if (setting.added) this.fail(setting, `${name} is a number: += cannot be used with it`);
    const value = /^0[0-7]+$/.test(text)
      ? Number.parseInt(text, 8)
      : /^(0x[0-9a-f]+|0|[1-9]\d*)$/i.test(text)
        ? Number(text)
        : Number.NaN;
    if (!(value >= low && value <= high))
      this.fail(setting.value, `${name} = ${text} is not a whole number from ${low} to ${high}`);
    return value;
  }
  action(name: string, otherwise: EndAction): EndAction {
    const text = this.text(name);
    if (text === undefined) return otherwise;
    const known = ACTIONS.find((a) => a === text);
    if (known !== undefined) return known;
    const what = ALL_ACTIONS.includes(text) ? 'is not supported' : 'is unknown';
    return this.refuse(name, `${name} = "${text}" ${what} (${ACTIONS.join(', ')})`);
  }
}

/** Parses and checks a whole file. `file` is its name for messages. Throws ConfigError. */
export const readXlConfig = (source: string, file: string, limits: ConfigLimits = LIMITS): XlConfig =>
  readXlSettings(parseConfig(source, file), limits);

/** Checks the settings of a file that was parsed. Throws ConfigError. */
export function readXlSettings(config: ConfigFile, limits: ConfigLimits = LIMITS): XlConfig {
  const { file } = config;
  const s = new Settings(config);
  for (const old of config.replaced)
    s.warn(old, `${old.name} is set again further down: this one does not count`);
  checkType(s);
  const name = s.text('name');
  if (name === undefined) throw new ConfigError(`${file}: name is missing`);
  const fault = nameFault(name);
  if (fault !== undefined) s.refuse('name', fault);
  const kernel = s.text('kernel');
  if (!kernel) throw new ConfigError(`${s.positionOf('kernel')}: kernel is missing`);

  const memory = s.whole('memory', 1, limits.maxMemoryMib);
  const maxmem = s.whole('maxmem', 1, limits.maxMemoryMib);
  const memoryMib = memory ?? maxmem ?? DEFAULT_MEMORY_MIB;
  if (maxmem !== undefined && maxmem < memoryMib)
    s.refuse('maxmem', `maxmem = ${maxmem} is less than memory`);
  const vcpus = s.whole('vcpus', 1, limits.maxVcpus) ?? 1;
  const maxVcpus = s.whole('maxvcpus', 1, limits.maxVcpus) ?? vcpus;
  if (maxVcpus < vcpus) s.refuse('maxvcpus', `maxvcpus = ${maxVcpus} is less than vcpus`);

  const result: XlConfig = {
    name,
    uuid: uuid(s),
    kernel,
    ramdisk: s.text('ramdisk') || undefined,
    cmdline: cmdline(s),
    memoryKib: memoryMib * 1024,
    maxMemoryKib: (maxmem ?? memoryMib) * 1024,
    vcpus,
    maxVcpus,
    disks: disks(s),
    vifs: vifs(s),
    onPoweroff: s.action('on_poweroff', 'destroy'),
    onReboot: s.action('on_reboot', 'restart'),
    onCrash: s.action('on_crash', 'destroy'),
    clock: clock(s),
    warnings: s.warnings,
  };
  const unsupported: string[] = [];
  for (const setting of config.settings.values()) {
    if (s.used.has(setting.name)) continue;
    if (NO_EFFECT.has(setting.name)) s.warn(setting, `${setting.name} has no effect on a PV guest here`);
    else unsupported.push(`${s.at(setting)}: ${setting.name} is not supported`);
  }
  if (unsupported.length > 0) throw new ConfigError(unsupported.join('\n'));
  return result;
}

function checkType(s: Settings): void {
  // xl accepts any prefix of the word.
  const type = s.text('type');
  if (type !== undefined && (type === '' || !'pv'.startsWith(type)))
    s.refuse('type', `type = "${type}" is not supported (pv)`);
  const builder = s.text('builder');
  if (builder !== undefined && builder !== 'generic' && builder !== 'linux')
    s.refuse('builder', `builder = "${builder}" is not supported (generic)`);
}

function uuid(s: Settings): string | undefined {
  const text = s.text('uuid');
  if (text === undefined) return undefined;
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text))
    s.refuse('uuid', `uuid "${text}" is not a valid uuid`);
  return text.toLowerCase();
}

function cmdline(s: Settings): string {
  const whole = s.text('cmdline');
  const root = s.text('root');
  const extra = s.text('extra');
  if (whole !== undefined) {
    for (const other of ['root', 'extra']) {
      const setting = s.config.settings.get(other);
      if (setting) s.warn(setting, `${other} does not count, as cmdline is set`);
    }
    return whole;
  }
  return [root === undefined ? undefined : `root=${root}`, extra]
    .filter((part) => part !== undefined)
    .join(' ');
}

function disks(s: Settings): DiskSpec[] {
  const taken = new Map<number, string>();
  const before: DiskSpec[] = [];
  return s.list('disk').map((item) => {
    const disk = parseDisk(item.text, (message) => s.fail(item, message));
    const other = taken.get(disk.virtualDevice);
    if (other !== undefined) s.fail(item, `disk '${item.text}': vdev ${disk.vdev} is taken by '${other}'`);
    taken.set(disk.virtualDevice, item.text);
    const sharing = sharedImage(disk, before);
    if (sharing !== undefined) s.fail(item, `disk '${item.text}': ${sharingFault(sharing)}`);
    before.push(disk);
    return disk;
  });
}

function vifs(s: Settings): VifSpec[] {
  const taken = new Set<number>();
  const macs = new Map<string, string>();
  return s.list('vif').map((item, index) => {
    const vif = parseVif(
      item.text,
      (message) => s.fail(item, message),
      (message) => s.warn(item, message),
    );
    const devid = vif.devid ?? index;
    if (taken.has(devid)) s.fail(item, `vif '${item.text}': devid ${devid} is taken by another`);
    taken.add(devid);
    if (vif.mac !== undefined) {
      const other = macs.get(vif.mac);
      if (other !== undefined) s.fail(item, `vif '${item.text}': '${other}' has the same address`);
      macs.set(vif.mac, item.text);
    }
    return vif;
  });
}

function clock(s: Settings): 'elapse' | 'freeze' {
  const text = s.text('clock') ?? 'elapse';
  if (text === 'elapse' || text === 'freeze') return text;
  return s.refuse('clock', `clock = "${text}" is unknown (elapse, freeze)`);
}
