/**
 * The configuration of one guest, from the settings of an xl.cfg file, with xl's meanings and defaults.
 *
 * Invariant: every setting of the file is used, or gives a warning that says why it has no effect, or is refused with
 * file, line and column, as config-keys.ts has it. No setting is silently ignored unless it asks for nothing (0, "",
 * []) or for what a guest has anyway.
 * Source: Xen, docs/man/xl.cfg.5.pod, tools/xl/xl_parse.c (parse_config_data).
 */

import type { DiskSpec } from '../protocol/guest-config.js';
import { nameFault } from '../protocol/name.js';
import { defaultQuotas, type QuotaName, type Quotas } from '../xenstore/core/quotas.js';
import { type BootLoaderSettings, NO_SETTINGS } from './boot-loader.js';
import { type DoneKey, KEYS, keyLike } from './config-keys.js';
import { parseDisk, sharedImage, sharingFault } from './disk-spec.js';
import { parseVif, type VifSpec } from './vif-spec.js';
import { ConfigError, type ConfigFile, type ConfigValue, type Position, parseConfig } from './xl-cfg.js';

type EndAction = (typeof ACTIONS)[number];

export interface XlConfig {
  readonly name: string;
  /** 36 characters in lower case, or undefined: one will be made up. */
  readonly uuid: string | undefined;
  /** The path as written in the file. The caller resolves relative paths. */
  readonly kernel: string;
  readonly ramdisk: string | undefined;
  /** The guest boots from its own disk: `kernel` is "", and there is no ramdisk. */
  readonly bootLoader: BootLoaderSettings | undefined;
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
  /** What the guest's wall clock is ahead of true time, s; without what `localtime` adds. */
  readonly clockOffsetS: number;
  /** Whether its wall clock shows the host's local time. */
  readonly localTime: boolean;
  /** How many frames its table of grants may have. Undefined: what suffices for its devices. */
  readonly maxGrantFrames: number | undefined;
  /** Quotas of its xenstore that the configuration sets. */
  readonly xenstoreQuotas: Partial<Quotas>;
  /** Each warning contains file and line. */
  readonly warnings: readonly string[];
}

interface ConfigLimits {
  readonly maxMemoryMib: number;
  readonly maxVcpus: number;
}

/** The limits of the container: 8 vCPUs, and RAM within the 4 GiB of one linear memory. */
export const LIMITS: ConfigLimits = { maxMemoryMib: 3000, maxVcpus: 8 };

/** The largest table of grants, frames of 512 grants each: 4 MiB. */
export const MAX_GRANT_FRAMES = 1024;
/** The quotas of xenstore that a configuration may set; to how many times their defaults. */
const SETTABLE: readonly QuotaName[] = [
  'nodes',
  'watches',
  'transactions',
  'outstanding',
  'transaction-nodes',
  'memory',
];
const MOST_TIMES = 100;
/** The largest value to which a configuration may set a quota of xenstore; 0 if it may not set it at all. */
export const mostOfQuota = (name: string): number => {
  const known = SETTABLE.find((one) => one === name);
  return known === undefined ? 0 : MOST_TIMES * defaultQuotas()[known];
};

/** libxl's default if the file has no `memory`, in MiB. */
const DEFAULT_MEMORY_MIB = 32;
const ACTIONS = ['destroy', 'restart', 'preserve', 'coredump-destroy', 'coredump-restart'] as const;
/** What xl has beside them, what is done instead, and what is missing then. */
const NEAREST: Readonly<Record<string, readonly [EndAction, string]>> = {
  'rename-restart': ['restart', 'the domain that has ended is not kept'],
};
/** Ten years, s. */
const MAX_OFFSET_S = 10 * 366 * 86_400;
/** More warnings than anybody reads, and longer ones. */
const MAX_WARNINGS = 100;
const MAX_WARNING = 1000;

/** Whether a value asks for nothing, as if the key were left out. */
const isNothing = (value: ConfigValue): boolean =>
  value.kind === 'list' ? value.items.every(isNothing) : /^\s*(0+|0x0+|none|no|off)?\s*$/.test(value.text);

class Settings {
  private readonly warned: (Position & { readonly message: string })[] = [];

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
  warn({ line, column }: Position, message: string): void {
    this.warned.push({ line, column, message });
  }
  /** In the order of the file. */
  warnings(): string[] {
    const { warned } = this;
    warned.sort((a, b) => a.line - b.line || a.column - b.column);
    const all = warned
      .slice(0, MAX_WARNINGS)
      .map((one) => `${this.at(one)}: ${one.message.slice(0, MAX_WARNING)}`);
    const more = warned.length - MAX_WARNINGS;
    return more > 0 ? [...all, `${this.config.file}: there are ${more} more warnings`] : all;
  }

  value(name: DoneKey): ConfigValue | undefined {
    return this.config.settings.get(name)?.value;
  }
  text(name: DoneKey): string | undefined {
    const value = this.value(name);
    if (value === undefined) return undefined;
    if (value.kind === 'list') return this.fail(value, `${name} is a list but should be a single value`);
    return value.text;
  }
  list(name: DoneKey): readonly (Position & { text: string })[] {
    const value = this.value(name);
    if (value === undefined) return [];
    if (value.kind === 'text') return this.fail(value, `${name} is a single value but should be a list`);
    return value.items.map((item) =>
      item.kind === 'text' ? item : this.fail(item, `${name} has a list in it where a string should be`),
    );
  }
  /** Parses a whole number in C's notation: decimal, hexadecimal with 0x, octal with 0; a sign and blanks before it. `most` says why it cannot be more. */
  whole(name: DoneKey, low: number, high: number, most = ''): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const setting = this.config.settings.get(name)!;
    if (setting.added) this.fail(setting, `${name} is a number: += cannot be used with it`);
    const [, sign, digits] = /^\s*([-+]?)(0[0-7]+|0x[0-9a-f]+|0|[1-9]\d*)$/i.exec(text) ?? [];
    const size = /^0[0-7]+$/.test(digits ?? '') ? Number.parseInt(digits, 8) : Number(digits ?? Number.NaN);
    const value = sign === '-' ? -size : size;
    if (!(value >= low && value <= high))
      this.fail(
        setting.value,
        `${name} = ${text} is not a whole number from ${low} to ${high}${value > high ? most : ''}`,
      );
    return value;
  }
  /** An end of a guest. What is not done as xl does it gets a warning. */
  action(name: DoneKey, otherwise: EndAction): EndAction {
    const text = this.text(name);
    if (text === undefined) return otherwise;
    const known = ACTIONS.find((a) => a === text);
    if (known !== undefined) return known;
    const setting = this.config.settings.get(name) as Position;
    const nearest = Object.hasOwn(NEAREST, text) ? NEAREST[text] : undefined;
    if (nearest !== undefined) {
      const [action, missing] = nearest;
      this.warn(setting, `${name} = "${text}" is as "${action}" here: ${missing}`);
      return action;
    }
    const all = [...ACTIONS, ...Object.keys(NEAREST)].join(', ');
    const what = text === 'soft-reset' ? 'is not for PV guests' : 'is unknown';
    return this.refuse(name, `${name} = "${text}" ${what} (${all})`);
  }

  /** Warns of what has no effect, and refuses what is not supported: all of it at once. */
  judge(): void {
    const refused: string[] = [];
    for (const setting of this.config.settings.values()) {
      const { name, value } = setting;
      const row = KEYS.get(name);
      if (row?.verdict === 'done' || isNothing(value)) continue;
      if (row === undefined) {
        const like = this.warned.length < MAX_WARNINGS ? keyLike(name) : undefined;
        const hint = like === undefined ? '' : ` (is ${like} meant?)`;
        this.warn(setting, `${name} is unknown, and is ignored, as by xl${hint}`);
      } else if (row.verdict === 'refused')
        refused.push(`${this.at(setting)}: ${name} is not supported: ${row.words}`);
      else if (!(value.kind === 'text' && row.already?.test(value.text)))
        this.warn(setting, `${name} ${row.words}`);
    }
    if (refused.length > 0) throw new ConfigError(refused.join('\n'));
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
  s.judge();
  const name = s.text('name');
  if (name === undefined) throw new ConfigError(`${file}: name is missing`);
  const fault = nameFault(name);
  if (fault !== undefined) s.refuse('name', fault);
  const line = cmdline(s);
  const bootLoader = loader(s, line);
  const kernel = bootLoader === undefined ? s.text('kernel') : '';
  if (bootLoader === undefined && !kernel)
    throw new ConfigError(`${s.positionOf('kernel')}: kernel is missing`);

  const memoryWords = `: a guest here has at most ${limits.maxMemoryMib} MiB of RAM`;
  const vcpuWords = `: a guest here has at most ${limits.maxVcpus} vCPUs`;
  const memory = s.whole('memory', 1, limits.maxMemoryMib, memoryWords);
  const maxmem = s.whole('maxmem', 1, limits.maxMemoryMib, memoryWords);
  const memoryMib = memory ?? maxmem ?? DEFAULT_MEMORY_MIB;
  if (maxmem !== undefined && maxmem < memoryMib)
    s.refuse('maxmem', `maxmem = ${maxmem} is less than memory`);
  const vcpus = s.whole('vcpus', 1, limits.maxVcpus, vcpuWords) ?? 1;
  const maxVcpus = s.whole('maxvcpus', 1, limits.maxVcpus, vcpuWords) ?? vcpus;
  if (maxVcpus < vcpus) s.refuse('maxvcpus', `maxvcpus = ${maxVcpus} is less than vcpus`);

  const result = {
    name,
    uuid: uuid(s),
    kernel: kernel ?? '',
    ramdisk: bootLoader === undefined ? s.text('ramdisk') || undefined : undefined,
    bootLoader,
    cmdline: bootLoader === undefined ? line : '',
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
    clockOffsetS: s.whole('rtc_timeoffset', -MAX_OFFSET_S, MAX_OFFSET_S) ?? 0,
    maxGrantFrames: s.whole('max_grant_frames', 1, MAX_GRANT_FRAMES),
    xenstoreQuotas: xenstoreQuotas(s),
    localTime: (s.whole('localtime', -0x8000_0000, 0x7fff_ffff) ?? 0) !== 0,
  };
  return { ...result, warnings: s.warnings() };
}

function checkType(s: Settings): void {
  // xl accepts any prefix of the word.
  const type = s.text('type');
  if (type !== undefined && (type === '' || !'pv'.startsWith(type)))
    s.refuse('type', `type = "${type}" is not supported (pv): only PV guests run here`);
  const builder = s.text('builder');
  if (builder !== undefined && builder !== 'generic' && builder !== 'linux')
    s.refuse('builder', `builder = "${builder}" is not supported (generic): only PV guests run here`);
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

/** A program's name without its folder. */
const baseName = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
const LOADERS = /^(pygrub|pv-?grub)$/;
/** Xen's older builds of GRUB as a kernel, which guests' files name as their kernel. */
const PV_GRUB = /^pv-?grub(-?(x86_)?(32|64))?([.](bin|gz))*$/;
const ONLY_64 = 'only 64-bit kernels run here. pvgrub64 boots a 64-bit kernel from the same disk';

const LOADER_KEYS = ['bootloader_args', 'bootargs', 'bootentry'] as const;

/** How the guest boots from its own disk, if that is asked for. `line` is what the file says of the command line. */
function loader(s: Settings, line: string): BootLoaderSettings | undefined {
  const from = loaderBegins(s, line);
  if (from !== undefined) return programSettings(s, from);
  for (const key of LOADER_KEYS) {
    const value = s.value(key);
    if (value !== undefined && !isNothing(value)) s.warn(value, `${key} has no effect without bootloader`);
  }
  return undefined;
}

/** The settings before those that have keys of their own. */
function loaderBegins(s: Settings, line: string): BootLoaderSettings | undefined {
  const [program, kernel, firmware] = (['bootloader', 'kernel', 'firmware'] as const).map(
    (key) => s.text(key) || undefined,
  );
  if (program !== undefined) {
    if (!LOADERS.test(baseName(program)))
      s.refuse(
        'bootloader',
        `bootloader = "${program}" is not supported (pygrub, pvgrub): it is a program of dom0, and none is run here`,
      );
    return { ...NO_SETTINGS, args: line, kernel: kernel ?? '', ramdisk: s.text('ramdisk') ?? '' };
  }
  if (firmware !== undefined) {
    if (kernel !== undefined)
      s.refuse('firmware', 'kernel and firmware are both there: leave one of them out');
    if (firmware === 'pvgrub32')
      s.refuse('firmware', `firmware = "${firmware}" is not supported: ${ONLY_64}`);
    if (!'pvgrub64'.startsWith(firmware))
      s.refuse('firmware', `firmware = "${firmware}" is unknown (pvgrub64)`);
  } else {
    if (kernel === undefined || !PV_GRUB.test(baseName(kernel))) return undefined;
    if (kernel.includes('32')) s.refuse('kernel', `kernel = "${kernel}" is not supported: ${ONLY_64}`);
  }
  // Its command line is the path of the menu, as GRUB legacy writes it: (hd0,0)/boot/grub/menu.lst.
  const [, config = ''] = /^(?:[(][^)]*[)])?([/]\S*)$/.exec(line.trim()) ?? [];
  return { ...NO_SETTINGS, config };
}

/** The arguments that pygrub understands, in its words. */
/** `config` is our own: the menu's file. */
const LOADER_TEXT = new Set(['kernel', 'ramdisk', 'args', 'entry', 'config']);
const LOADER_QUIET = /^(-q|--quiet)$/;
/** They ask for what is done anyway. */
const LOADER_NOTHING = /^(-i|--interactive|--debug)$/;

function programSettings(s: Settings, from: BootLoaderSettings): BootLoaderSettings {
  const settings: { -readonly [K in keyof BootLoaderSettings]: BootLoaderSettings[K] } = { ...from };
  for (const key of ['bootloader_args', 'bootargs'] as const) {
    const value = s.value(key);
    if (value === undefined) continue;
    const given =
      value.kind === 'list'
        ? s.list(key)
        : value.text
            .split(/[ \t\n]+/)
            .filter((text) => text !== '')
            .map((text) => ({ text, line: value.line, column: value.column }));
    for (let i = 0; i < given.length; i++) {
      const { text, ...at } = given[i];
      const [, name, same] = /^--([a-z-]+)(?:=(.*))?$/s.exec(text) ?? [];
      const known = name === 'offset' || LOADER_TEXT.has(name ?? '');
      if (known) {
        const said = same ?? given[++i]?.text ?? s.fail(at, `${key}: ${text} has no value`);
        if (name !== 'offset') settings[name as 'args'] = said;
        else if (/^\d{1,15}$/.test(said) && Number(said) % 512 === 0) settings.offset = Number(said);
        else s.fail(at, `${key}: --offset=${said} is no number of bytes, a multiple of 512`);
      } else if (LOADER_QUIET.test(text)) settings.quiet = true;
      else if (!LOADER_NOTHING.test(text)) s.warn(at, `${key}: ${text} has no effect here`);
    }
  }
  const entry = s.text('bootentry');
  if (entry) settings.entry = entry;
  for (const [name, value] of Object.entries(settings))
    if (typeof value === 'string' && value.length > 1024)
      throw new ConfigError(`${s.config.file}: ${name} for the boot loader has more than 1024 characters`);
  return settings;
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
      if (other !== undefined)
        s.fail(
          item,
          `vif '${item.text}': '${other}' has the same address. Give one of them another mac, or none`,
        );
      macs.set(vif.mac, item.text);
    }
    return vif;
  });
}

function xenstoreQuotas(s: Settings): Partial<Quotas> {
  const quotas: Record<string, number> = {};
  for (const item of s.list('xenstore_quota')) {
    const [name, value] = item.text.split('=').map((part) => part.trim());
    const most = mostOfQuota(name);
    if (most === 0) s.warn(item, `xenstore_quota: ${name} is not set here (${SETTABLE.join(', ')})`);
    else if (!/^[0-9]{1,15}$/.test(value ?? '') || Number(value) < 1 || Number(value) > most)
      s.fail(item, `xenstore_quota: ${item.text} is not ${name} = a whole number from 1 to ${most}`);
    else quotas[name] = Number(value);
  }
  return quotas;
}

function clock(s: Settings): 'elapse' | 'freeze' {
  const text = s.text('clock') ?? 'elapse';
  if (text === 'elapse' || text === 'freeze') return text;
  return s.refuse('clock', `clock = "${text}" is unknown (elapse, freeze)`);
}
