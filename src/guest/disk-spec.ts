/**
 * Parses one entry of `disk = [...]` as xl does: positional and named parameters in any mixture, flags, the
 * deprecated prefixes, and `target=`, which takes the rest of the text. An entry that needs a program of the host
 * (`script`), another protocol or another domain is refused, and the message names it.
 * Source: Xen, docs/man/xl-disk-configuration.5.pod, tools/libs/util/libxlu_disk_l.l and libxlu_disk.c;
 * docs/man/xen-vbd-interface.7.pandoc for device numbers.
 */

import type { DiskFormat, DiskSpec } from '../protocol/guest-config.js';
import { done, type KeyRow, refused } from './config-keys.js';

const FORMATS = new Set<string>(['raw', 'qcow', 'qcow2', 'vhd', 'qed', 'empty']);
const PREFIX_FORMAT = /^(raw|qcow2?|vhd):/;
const PREFIX_SCRIPT = /^(iscsi|e?nbd|drbd):/;
const PREFIX_IGNORED = /^(tapdisk|tap2?|aio|ioemu|file|phy):/;
const PREFIX_UNKNOWN = /^([a-z][a-z0-9]*):(?![a-z0-9])/;

/**
 * What a disk may have that a program or another domain of its host does: refused, because nobody here does it, or
 * passed over, because the caller has its host do it.
 */
export type OfHost = 'refused' | 'passed-over';
const OF_HOST = /^(script|backend)$/;

const SCRIPT =
  'no program of the host runs for a disk. Connect the device on the host and name it as target, or name an NBD server (target=nbd://...)';
const COLO = refused('a guest has no second copy of itself (COLO). Leave it out');

/** The parameters and flags of a disk, with their verdicts: docs/configuration.md is made from them. */
export const DISK_KEYS: Readonly<Record<string, KeyRow>> = {
  target: done(
    'the image: a file or a block device of the host, below `/dev` if it has no slash before it, or an NBD server',
  ),
  format: done('`raw`, `qcow`, `qcow2`, `vhd`, `qed`; `raw` if it is left out'),
  vdev: done('the name that the guest sees: `xvda`, `sda1`, `hdc`, `d2p3`, or its number'),
  access: done('`r` or `ro`, `w` or `rw`, which is the default'),
  devtype: done('`disk` or `cdrom`; a drive may be empty'),
  cdrom: done('the same as `devtype=cdrom`'),
  backendtype: done(
    '`phy`, `qdisk`, `tap`: what libxl writes to xenstore; the format decides how an image is read',
  ),
  specification: done('`xen`; `virtio` is refused, because a PV guest has no such devices'),
  discard: done('the guest may discard sectors, as by default'),
  'no-discard': done('the guest may not discard sectors'),
  'direct-io-safe': done("the host's page cache may be passed by"),
  trusted: done('the guest is told to trust its back end, as by default'),
  untrusted: done('the guest is told not to trust its back end'),
  'no-colo': done('as by default'),
  backend: refused(
    'there are no driver domains but domain 0: name an image of this host, and leave backend out',
  ),
  script: refused(SCRIPT),
  ...Object.fromEntries(
    ['colo', 'colo-host', 'colo-port', 'colo-export', 'active-disk', 'hidden-disk'].map((key) => [key, COLO]),
  ),
  grant_usage: refused('it is for virtio devices. Leave it out'),
};
const isRefused = (key: string): boolean =>
  Object.hasOwn(DISK_KEYS, key) && DISK_KEYS[key].verdict === 'refused' && key !== 'backend';

class Reader {
  target: string | undefined;
  format: string | undefined;
  vdev: string | undefined;
  access: string | undefined;
  backendType: DiskSpec['backendType'] = '';
  cdrom = false;
  discard = true;
  directIoSafe = false;
  trusted = true;
  private prefixed = false;

  constructor(
    readonly spec: string,
    readonly fail: (message: string) => never,
    private readonly ofHost: OfHost,
  ) {}

  private once(what: 'target' | 'vdev', value: string): void {
    if (this[what]) this.fail(`${what} is given twice: "${this[what]}" and "${value}"`);
    this[what] = value;
  }

  private setFormat(value: string): void {
    const format = value === '' ? 'raw' : value;
    if (!FORMATS.has(format)) this.fail(`format "${value}" is unknown (raw, qcow, qcow2, vhd, qed)`);
    if (this.format !== undefined && this.format !== format)
      this.fail(`format is given twice: "${this.format}" and "${format}"`);
    this.format = format;
  }

  private setAccess(value: string): void {
    if (!/^(r|ro|w|rw|)$/.test(value)) this.fail(`access "${value}" is unknown (ro, r, rw, w)`);
    this.access = value;
  }

  /** `hdc:cdrom` is the old form that gives both vdev and type. */
  private vdevAndType(value: string): boolean {
    const colon = value.lastIndexOf(':');
    if (colon < 0) return false;
    const type = value.slice(colon + 1);
    if (type !== 'cdrom' && type !== 'disk') this.fail(`device type "${type}" is unknown (disk, cdrom)`);
    this.once('vdev', value.slice(0, colon));
    this.cdrom = type === 'cdrom';
    return true;
  }

  named(key: string, value: string): void {
    if (this.ofHost === 'passed-over' && OF_HOST.test(key)) return;
    if (isRefused(key)) this.fail(`${key} is not supported: ${DISK_KEYS[key].words}`);
    switch (key) {
      case 'format':
        this.setFormat(value);
        break;
      case 'vdev':
        this.once('vdev', value);
        break;
      case 'target':
        this.once('target', value);
        break;
      case 'access':
        this.setAccess(value);
        break;
      case 'devtype':
        if (value !== 'cdrom' && value !== 'disk') this.fail(`devtype "${value}" is unknown (disk, cdrom)`);
        this.cdrom = value === 'cdrom';
        break;
      case 'backendtype':
        if (value !== 'phy' && value !== 'qdisk' && value !== 'tap')
          this.fail(`backendtype "${value}" is not supported (phy, qdisk, tap)`);
        this.backendType = value;
        break;
      case 'specification':
        if (value !== 'xen') this.fail(`specification "${value}" is not supported (xen)`);
        break;
      case 'backend':
        if (!/^(|0|Domain-0)$/.test(value))
          this.fail(`backend "${value}" is not supported: ${DISK_KEYS['backend'].words}`);
        break;
      default:
        this.fail(`${key} is not a parameter of a disk`);
    }
  }

  /** Returns whether the word is a flag. */
  flag(word: string): boolean {
    if (isRefused(word)) this.fail(`${word} is not supported: ${DISK_KEYS[word].words}`);
    if (word === 'no-colo') return true;
    if (word === 'cdrom') this.cdrom = true;
    else if (word === 'discard') this.discard = true;
    else if (word === 'no-discard') this.discard = false;
    else if (word === 'direct-io-safe') this.directIoSafe = true;
    else if (word === 'trusted') this.trusted = true;
    else if (word === 'untrusted') this.trusted = false;
    else return false;
    return true;
  }

  positional(value: string): void {
    if (this.target === undefined) this.target = value;
    else if (!this.prefixed && this.format === undefined) {
      if (this.target === '' && this.vdevAndType(value)) this.format = 'empty';
      else this.setFormat(value);
    } else if (this.vdev === undefined) {
      if (!this.vdevAndType(value)) this.once('vdev', value);
    } else if (this.access === undefined) this.setAccess(value);
    else this.fail(`"${value}": too many parameters without a name`);
  }

  /** Handles one deprecated prefix. Returns its length. */
  prefix(rest: string): number {
    const script = PREFIX_SCRIPT.exec(rest);
    if (script && this.ofHost === 'passed-over') {
      this.prefixed = true;
      return script[0].length;
    }
    if (script) this.fail(`${script[0]} is not supported: ${SCRIPT}`);
    const format = PREFIX_FORMAT.exec(rest);
    const known = format ?? PREFIX_IGNORED.exec(rest);
    if (known === null) {
      const unknown = PREFIX_UNKNOWN.exec(rest);
      if (unknown) this.fail(`${unknown[0]} is not a prefix of a target`);
      return 0;
    }
    if (format) this.setFormat(format[1]);
    this.prefixed = true;
    return known[0].length;
  }
}

/** Parses one specification. `fail` is called with a description of the mistake and must throw. */
export function parseDisk(
  spec: string,
  fail: (message: string) => never,
  ofHost: OfHost = 'refused',
): DiskSpec {
  const r = new Reader(spec, (message) => fail(`disk '${spec}': ${message}`), ofHost);
  let at = 0;
  for (;;) {
    while (/[ \t\n]/.test(spec[at] ?? '')) at++;
    if (at >= spec.length) break;
    const rest = spec.slice(at);
    const skipped = r.prefix(rest);
    if (skipped > 0) {
      at += skipped;
      continue;
    }
    const comma = rest.indexOf(',');
    const word = comma < 0 ? rest : rest.slice(0, comma);
    const key = /^([a-z][-_a-z0-9]*)=/.exec(word)?.[1];
    if (key === 'target') {
      r.named('target', rest.slice('target='.length).replace(/,$/, ''));
      break;
    }
    if (key !== undefined) r.named(key, word.slice(key.length + 1));
    else if (!r.flag(word)) {
      if (word.includes('=')) r.fail(`"${word}" has "=" in it: such a target is written target=${word}`);
      r.positional(word);
    }
    at += word.length + 1;
  }
  const { vdev, cdrom } = r;
  const target = r.target ?? '';
  if (!vdev) return r.fail('no vdev is given, the name under which the guest sees it (xvda, ...)');
  if (target === '' && !cdrom) return r.fail('no target is given');
  const virtualDevice = vdevNumber(vdev);
  if (virtualDevice === undefined)
    return r.fail(`vdev "${vdev}" is not the name of a virtual disk (xvda, sda, hda, ...)`);
  return {
    target: /^($|\/|[a-z][-+.a-z0-9]*:\/\/)/i.test(target) ? target : `/dev/${target}`,
    format: cdrom && target === '' ? 'empty' : ((r.format ?? 'raw') as DiskFormat),
    vdev,
    virtualDevice,
    readOnly: cdrom || r.access === 'r' || r.access === 'ro',
    cdrom,
    backendType: r.backendType,
    discard: r.discard,
    directIoSafe: r.directIoSafe,
    trusted: r.trusted,
  };
}

/** "a" is 0, "z" is 25, "aa" is 26. */
const lettersNumber = (letters: string): number =>
  [...letters].reduce((n, c) => (n + 1) * 26 + c.charCodeAt(0) - 97, -1);

/** The number of a virtual disk as used in xenstore, from its name. Undefined if the name is invalid. */
export function vdevNumber(name: string): number | undefined {
  const extended = (disk: number, partition: number): number | undefined =>
    disk < 1 << 20 && partition < 256 ? 0x1000_0000 + disk * 256 + partition : undefined;
  if (/^(0x[0-9a-f]+|0|[1-9]\d*)$/i.test(name)) return Number(name) < 2 ** 31 ? Number(name) : undefined;
  const plain = /^d(\d+)p(\d+)$/.exec(name);
  const named = /^(xvd|sd|hd)([a-z]{1,5})([1-9]\d*)?$/.exec(name);
  const disk = plain ? Number(plain[1]) : named ? lettersNumber(named[2]) : -1;
  const partition = Number((plain ? plain[2] : named?.[3]) ?? 0);
  if (disk < 0) return undefined;
  if (named?.[1] === 'hd')
    return disk < 4 && partition < 64
      ? ((disk < 2 ? 3 : 22) << 8) | ((disk & 1) << 6) | partition
      : undefined;
  if (named?.[1] === 'sd')
    return disk < 16 && partition < 16 ? (8 << 8) | (disk << 4) | partition : undefined;
  if (disk < 16 && partition < 16) return (202 << 8) | (disk << 4) | partition;
  return extended(disk, partition);
}

/** The disk in `others` that has the same image, if one of the two may be written: each would then damage the other. */
export const sharedImage = (disk: DiskSpec, others: readonly DiskSpec[]): DiskSpec | undefined =>
  disk.target === ''
    ? undefined
    : others.find((other) => other.target === disk.target && !(other.readOnly && disk.readOnly));

export const sharingFault = (other: DiskSpec): string =>
  `${other.vdev} has the same image, and one of both may be written to`;
