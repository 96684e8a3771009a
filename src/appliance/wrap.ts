/**
 * From the xl.cfg of a PV guest makes that of its helper domain, and the configuration that the helper reads inside; and
 * back. docs/appliance.md tells both files setting by setting.
 *
 * Invariant: every setting of the guest's file is the helper's or the guest's, as src/guest/config-keys.ts has it, or is
 * named with file, line and column as what cannot be wrapped. The guest's file is in the helper's as comments, byte for
 * byte, with its length and sum.
 */
import { createHash } from 'node:crypto';
import { BOOT_LOADER, type BootLoaderSettings } from '../guest/boot-loader.js';
import { readXlSettings, type XlConfig } from '../guest/config.js';
import { isOfDomain } from '../guest/config-keys.js';
import { parseDisk } from '../guest/disk-spec.js';
import { parseVif } from '../guest/vif-spec.js';
import {
  ConfigError,
  type ConfigFile,
  type ConfigValue,
  type Position,
  parseConfig,
  quoted,
  type Setting,
} from '../guest/xl-cfg.js';
import { VERSION } from '../protocol/generated/version.js';
import type { DiskSpec } from '../protocol/guest-config.js';
import { CPU_LEVELS, type CpuLevel } from './cpu-level.js';
import type { MoveSettings } from './move-settings.js';

/** Where the guest's files are in the helper domain. */
export const GUEST_CONFIG = '/guest/guest.cfg';
export const GUEST_KERNEL = '/guest/kernel';
export const GUEST_RAMDISK = '/guest/ramdisk';
/** What the helper needs for moves: src/appliance/move-settings.ts. Its identity is beside it. */
export const MOVE_SETTINGS = '/guest/move/settings.json';
export const MOVE_IDENTITY = '/guest/move/identity';

/** The number of which the address of the helper's own vif is made: no guest has so many. */
const OWN_VIF = 0xffff;

/** Of the keys that are the helper domain's, those that the guest has, too. */
const GUESTS_TOO = new Set(['max_grant_frames']);
/** What names the guest's kernel if `kernel` does not; a kernel that the caller gives is in their place. */
const LOADERS = new Set(
  'bootloader bootloader_args bootloader_restrict bootloader_user bootargs bootentry firmware'.split(' '),
);

/**
 * What a helper domain needs beside its guest's memory and files, MiB: docs/appliance.md tells how it was measured.
 */
export const OVERHEAD_MIB = 256;
/** Linux describes each page of 4096 bytes in 64. */
const PAGE_SHARE = 64 / 4096;

/** The memory of a helper domain, MiB. `fileBytes` is the size of the guest's kernel and ramdisk. */
export const helperMemoryMib = (guestKib: number, fileBytes: number, overheadMib: number): number =>
  Math.ceil((guestKib / 1024 + fileBytes / 2 ** 20 + overheadMib) * (1 + PAGE_SHARE));

/**
 * For the helper's own Linux. The console is the guest's: Linux writes there only when it fails. Nobody looks at
 * debugfs and tracefs, whose files are 9 MiB of memory.
 */
export const HELPER_CMDLINE = 'console=hvc0 loglevel=1 debugfs=off initcall_blacklist=tracer_init_tracefs';

export interface WrapOptions {
  /** The name of the guest's file, for messages. */
  readonly file: string;
  /** Absolute paths on the host, for xl. */
  readonly kernelPath: string;
  readonly ramdiskPath: string;
  /** For a guest without a uuid. */
  readonly makeUuid: () => string;
  /** For a vif without an address: its address, from the guest's uuid and the vif's number. */
  readonly makeMac: (uuid: string, devid: number) => string;
  /** What this host's local time is ahead of UTC, s: for a guest with `localtime`. */
  readonly localOffsetS?: () => number;
  /** A kernel that is given in place of `bootloader` and `kernel`. */
  readonly kernel?: string;
  readonly level?: CpuLevel;
  readonly overheadMib?: number;
  /** The guest is to move to other hosts, and to come from them. */
  readonly moves?: WrapMoves;
}

export interface WrapMoves {
  /** IPv4, of the helper's own vif. */
  readonly address: string;
  readonly prefix: number;
  readonly port: number;
  readonly gateway?: string;
  /** What xl is to know of that vif, without its address: "bridge=xenbr0". */
  readonly vif: string;
  /** An absolute path of a file that the guest's configuration names. */
  readonly absolute: (name: string) => string;
}

export interface Wrapped {
  /** As the guest's file names them; the caller knows where that is. The kernel may be BOOT_LOADER. */
  readonly kernel: string;
  readonly ramdisk: string | undefined;
  readonly cmdline: string;
  /** What the helper reads inside. */
  readonly guestConfig: string;
  /** With `moves`, what the helper reads of them. */
  readonly moves: MoveSettings | undefined;
  readonly warnings: readonly string[];
  /** The helper's file, given the size of the guest's kernel and ramdisk. */
  helper(fileBytes: number): { readonly config: Buffer; readonly memoryMib: number };
}

const MARK = /^# The guest's own configuration: (\d+) bytes, SHA-256 ([0-9a-f]{64})$/m;
const PREFIX = '#|';
const sumOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** One character for each byte, so that any file comes back as it was. */
const lineTexts = (bytes: Uint8Array): string[] => Buffer.from(bytes).toString('latin1').split('\n');

function asComments(source: Uint8Array): Buffer {
  const head = `# The guest's own configuration: ${source.length} bytes, SHA-256 ${sumOf(source)}`;
  const lines = [head, ...lineTexts(source).map((line) => `${PREFIX}${line}`), ''];
  return Buffer.from(lines.join('\n'), 'latin1');
}

/** The guest's file out of a helper's. Throws ConfigError; `file` is the helper's name for it. */
export function unwrap(helper: Uint8Array, file: string): Buffer {
  const text = Buffer.from(helper).toString('latin1');
  const mark = MARK.exec(text);
  if (mark === null) throw new ConfigError(`${file}: this is no file that stillpoint wrap has made`);
  const line = text.slice(0, mark.index).split('\n').length;
  const lines: string[] = [];
  for (const one of text.slice(mark.index + mark[0].length + 1).split('\n')) {
    if (!one.startsWith(PREFIX)) break;
    lines.push(one.slice(PREFIX.length));
  }
  const source = Buffer.from(lines.join('\n'), 'latin1');
  const [bytes, sum] = [Number(mark[1]), mark[2]];
  if (source.length !== bytes || sumOf(source) !== sum)
    throw new ConfigError(
      `${file}:${line}:1: the guest's own configuration, in the lines that begin with ${PREFIX}, was changed`,
    );
  return source;
}

/** "a" for 0, "z" for 25, "aa" for 26. */
const letters = (n: number): string =>
  n < 26 ? String.fromCharCode(97 + n) : letters(Math.floor(n / 26) - 1) + letters(n % 26);

const SCSI_MAJORS = [8, 65, 66, 67, 68, 69, 70, 71, 128, 129, 130, 131, 132, 133, 134, 135];

/**
 * The name that Linux gives a virtual disk, for its number in xenstore: always xvd and letters, whatever the guest
 * calls it. Source: Linux, drivers/block/xen-blkfront.c, xlvbd_alloc_gendisk.
 */
export function linuxDisk(virtualDevice: number): string | undefined {
  if (virtualDevice >= 2 ** 28) {
    const minor = virtualDevice - 2 ** 28;
    return `xvd${letters(Math.floor(minor / 256))}${minor % 256 || ''}`;
  }
  const [major, minor] = [virtualDevice >> 8, virtualDevice & 255];
  // Partitions of IDE disks have no names of their own.
  if (major === 3 || major === 22) return `xvd${letters((minor >> 6) + (major === 22 ? 2 : 0))}`;
  const scsi = SCSI_MAJORS.indexOf(major);
  if (major !== 202 && scsi < 0) return undefined;
  return `xvd${letters((minor >> 4) + 16 * Math.max(0, scsi))}${minor % 16 || ''}`;
}

const setting = (name: string, value: string | number): string =>
  `${name} = ${typeof value === 'number' ? value : quoted(value)}`;
const list = (name: string, items: readonly string[]): string[] =>
  items.length === 0 ? [] : [`${name} = [`, ...items.map((item) => `  ${quoted(item)},`), ']'];

/** A value in the words of a configuration. */
const valueText = (value: ConfigValue): string =>
  value.kind === 'text' ? quoted(value.text) : `[ ${value.items.map(valueText).join(', ')} ]`;

class Guest {
  readonly warnings: string[] = [];

  constructor(readonly config: ConfigFile) {}

  fail = (position: Position, message: string): never => {
    throw new ConfigError(`${this.config.file}:${position.line}:${position.column}: ${message}`);
  };

  /** The strings of a list, each with its place. */
  items(name: string): (Position & { readonly text: string })[] {
    const value = this.config.settings.get(name)?.value;
    if (value === undefined) return [];
    if (value.kind === 'text') return this.fail(value, `${name} is a single value but should be a list`);
    return value.items.map((item) =>
      item.kind === 'text' ? item : this.fail(item, `${name} has a list in it where a string should be`),
    );
  }

  /** Each disk for the helper, as it was, and for the guest. */
  disks(asNamed: boolean): { readonly outer: string; readonly inner: string }[] {
    const taken = new Map<string, string>();
    return this.items('disk').map((item) => {
      const disk = parseDisk(item.text, (message) => this.fail(item, message), 'passed-over');
      const fail = (message: string) => this.fail(item, `disk '${item.text}': ${message}`);
      if (disk.format === 'empty') fail('a drive without a medium cannot be wrapped');
      if (/^[a-z][-+.a-z0-9]*:\/\//i.test(disk.target)) fail(`${disk.target} is no target that xl has`);
      const name = linuxDisk(disk.virtualDevice);
      if (name === undefined) return fail(`vdev ${disk.vdev} has no name in the helper domain`);
      const other = taken.get(name);
      if (other !== undefined)
        fail(`vdev ${disk.vdev} and that of '${other}' would both be ${name} in the helper domain`);
      taken.set(name, item.text);
      return { outer: item.text, inner: asNamed ? namedDisk(disk) : innerDisk(disk, name) };
    });
  }

  /** Each vif for the helper, with an address and without what xl does not know, and for the guest. */
  vifs(uuid: string, makeMac: WrapOptions['makeMac']): { readonly outer: string; readonly inner: string }[] {
    return this.items('vif').map((item, index) => {
      const warn = (message: string) =>
        void this.warnings.push(`${this.config.file}:${item.line}:${item.column}: ${message}`);
      const vif = parseVif(item.text, (message) => this.fail(item, message), warn, 'passed-over');
      const mac = vif.mac ?? makeMac(uuid, vif.devid ?? index);
      const given = item.text
        .split(',')
        .filter((part) => part.trim() !== '' && !/^ *(antispoof|mac)=/.test(part));
      const inner = [
        `mac=${mac}`,
        ...(vif.bridge === undefined ? [] : [`bridge=${vif.bridge}`]),
        ...(vif.devid === undefined ? [] : [`devid=${vif.devid}`]),
        ...(vif.mtu === undefined ? [] : [`mtu=${vif.mtu}`]),
        ...(vif.antispoof ? [] : ['antispoof=no']),
        ...(vif.trusted ? [] : ['untrusted']),
      ];
      return { outer: [`mac=${mac}`, ...given.map((part) => part.trim())].join(','), inner: inner.join(',') };
    });
  }
}

/** A disk as other hosts name it: there it may be opened by that name and format, which here is dom0's affair. */
function namedDisk(disk: DiskSpec): string {
  const words = [`format=${disk.format}`, `vdev=${disk.vdev}`, `access=${disk.readOnly ? 'r' : 'w'}`];
  return [...words, ...diskFlags(disk), `target=${disk.target}`].join(',');
}

function innerDisk(disk: DiskSpec, name: string): string {
  const words = [`/dev/${name}`, 'raw', disk.vdev, disk.readOnly ? 'r' : 'w'];
  return [...words, ...diskFlags(disk)].join(',');
}

function diskFlags(disk: DiskSpec): string[] {
  const words: string[] = [];
  if (disk.cdrom) words.push('cdrom');
  if (!disk.discard) words.push('no-discard');
  if (!disk.trusted) words.push('untrusted');
  return words;
}

/** The settings that the guest itself has; its loader is replaced by the kernel that is given. */
function guestSettings(config: ConfigFile, kernel: string | undefined): ConfigFile {
  const own = new Map<string, Setting>();
  for (const [name, one] of config.settings)
    if (
      !(isOfDomain(name) && !GUESTS_TOO.has(name)) &&
      name !== 'disk' &&
      name !== 'vif' &&
      !(LOADERS.has(name) && kernel !== undefined)
    )
      own.set(name, one);
  if (kernel !== undefined) {
    const at = config.settings.get('kernel') ?? config.settings.get('bootloader') ?? { line: 1, column: 1 };
    const value: ConfigValue = { kind: 'text', text: kernel, line: at.line, column: at.column };
    own.set('kernel', { name: 'kernel', value, added: false, line: at.line, column: at.column });
  }
  return { ...config, settings: own };
}

/** The boot loader in the guest, as src/guest/config.ts reads it. */
function loaderLines({ quiet, offset, ...texts }: BootLoaderSettings): string[] {
  const args = Object.entries(texts)
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `--${name}=${value}`);
  if (offset !== 0) args.push(`--offset=${offset}`);
  if (quiet) args.push('--quiet');
  return [setting('bootloader', 'pygrub'), ...list('bootloader_args', args)];
}

/** What another host has to know of the guest that the helper's own file says: what follows when it ends. */
const POLICIES = ['on_poweroff', 'on_reboot', 'on_crash'];

/** What follows an end by which the guest may live on another host: dom0 must not start it here again. */
const MUST_NOT_RESTART = ['on_poweroff', 'on_crash', 'on_watchdog'];

function checkPolicies({ file, settings }: ConfigFile): void {
  for (const name of MUST_NOT_RESTART) {
    const value = settings.get(name)?.value;
    if (value?.kind !== 'text' || !/restart/.test(value.text)) continue;
    throw new ConfigError(
      `${file}:${value.line}:${value.column}: ${name} = "${value.text}" cannot be wrapped with --listen: ` +
        'when its helper ends like that, the guest may live on another host, and must not be started here',
    );
  }
}

function innerConfig(
  xl: XlConfig,
  uuid: string,
  offsetS: number,
  disks: readonly string[],
  vifs: readonly string[],
  more: readonly string[],
  files: { readonly kernel: string; readonly ramdisk: string },
): string {
  return [
    setting('name', xl.name),
    setting('uuid', uuid),
    setting('memory', xl.memoryKib / 1024),
    setting('maxmem', xl.maxMemoryKib / 1024),
    setting('vcpus', xl.vcpus),
    setting('maxvcpus', xl.maxVcpus),
    ...(xl.bootLoader === undefined ? [setting('kernel', files.kernel)] : loaderLines(xl.bootLoader)),
    ...(xl.ramdisk === undefined ? [] : [setting('ramdisk', files.ramdisk)]),
    setting('cmdline', xl.cmdline),
    setting('clock', xl.clock),
    ...(offsetS === 0 ? [] : [setting('rtc_timeoffset', String(offsetS))]),
    ...(xl.maxGrantFrames === undefined ? [] : [setting('max_grant_frames', xl.maxGrantFrames)]),
    ...list(
      'xenstore_quota',
      Object.entries(xl.xenstoreQuotas).map(([name, value]) => `${name}=${value}`),
    ),
    ...more,
    ...list('disk', disks),
    ...list('vif', vifs),
    '',
  ].join('\n');
}

/** `source` is the guest's file. Throws ConfigError at what cannot be wrapped. */
export function wrap(source: Uint8Array, options: WrapOptions): Wrapped {
  const config = parseConfig(Buffer.from(source).toString('utf8'), options.file);
  const xl = readXlSettings(guestSettings(config, options.kernel));
  const guest = new Guest(config);
  const uuid = xl.uuid ?? options.makeUuid();
  const { moves } = options;
  const disks = guest.disks(moves !== undefined);
  const vifs = guest.vifs(uuid, options.makeMac);
  const overhead = options.overheadMib ?? OVERHEAD_MIB;
  if (moves !== undefined) checkPolicies(config);
  const ownMac = options.makeMac(uuid, OWN_VIF);
  const policies = [...config.settings.values()].filter(({ name }) => POLICIES.includes(name));
  const helperVifs = vifs.map(({ outer }) => outer);
  if (moves !== undefined) helperVifs.push(`mac=${ownMac},${moves.vif}`);

  const helper = (fileBytes: number) => {
    const memoryMib = helperMemoryMib(xl.maxMemoryKib, fileBytes, overhead);
    const lines = [
      `# Made by stillpoint wrap ${VERSION}: the helper domain of a PV guest. \`stillpoint unwrap\` gives its own file back.`,
      setting('name', xl.name),
      setting('type', 'pvh'),
      setting('uuid', uuid),
      setting('kernel', options.kernelPath),
      setting('ramdisk', options.ramdiskPath),
      setting('cmdline', HELPER_CMDLINE),
      setting('memory', memoryMib),
      setting('vcpus', xl.vcpus),
      setting('maxvcpus', xl.maxVcpus),
      ...[...config.settings.values()]
        .filter(({ name }) => isOfDomain(name))
        .map(({ name, value }) => `${name} = ${valueText(value)}`),
      ...list(
        'disk',
        disks.map(({ outer }) => outer),
      ),
      ...list('vif', helperVifs),
      ...(options.level === undefined ? [] : list('cpuid', CPU_LEVELS[options.level])),
      '',
      '',
    ];
    return { config: Buffer.concat([Buffer.from(lines.join('\n')), asComments(source)]), memoryMib };
  };
  return {
    kernel: xl.bootLoader === undefined ? xl.kernel : BOOT_LOADER,
    ramdisk: xl.ramdisk,
    cmdline: xl.cmdline,
    guestConfig: innerConfig(
      xl,
      uuid,
      xl.clockOffsetS + (xl.localTime ? (options.localOffsetS?.() ?? 0) : 0),
      disks.map(({ inner }) => inner),
      vifs.map(({ inner }) => inner),
      moves === undefined ? [] : policies.map(({ name, value }) => `${name} = ${valueText(value)}`),
      moves === undefined
        ? { kernel: GUEST_KERNEL, ramdisk: GUEST_RAMDISK }
        : { kernel: moves.absolute(xl.kernel), ramdisk: moves.absolute(xl.ramdisk ?? '') },
    ),
    moves: moves && {
      address: moves.address,
      port: moves.port,
      vif: { mac: ownMac, prefix: moves.prefix, gateway: moves.gateway },
    },
    warnings: [...xl.warnings, ...guest.warnings],
    helper,
  };
}
