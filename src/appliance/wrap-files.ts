/** The files of `wrap` and `unwrap`: what they read, and what they write beside the helper's configuration. */
import { createHash, randomUUID } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { vifSettings } from '../devices/vif/settings.js';
import { BOOT_LOADER } from '../guest/boot-loader.js';
import { loadImage } from '../guest/builder.js';
import { unpackKernel } from '../guest/bzimage.js';
import { KernelError } from '../guest/kernel-error.js';
import { parseVif } from '../guest/vif-spec.js';
import { ConfigError } from '../guest/xl-cfg.js';
import { kernelFile } from '../guest-process/device-requests.js';
import { localOffsetS } from '../os/clock.js';
import { nodeUnpackers } from '../os/unpackers.js';
import { check } from '../protocol/check.js';
import { Failure } from '../protocol/failure.js';
import { VERSION } from '../protocol/generated/version.js';
import { parseJson } from '../protocol/json.js';
import { fields, is, text } from '../protocol/shapes.js';
import { type CpioEntry, writeCpio } from './cpio.js';
import type { CpuLevel } from './cpu-level.js';
import {
  GUEST_CONFIG,
  GUEST_KERNEL,
  GUEST_RAMDISK,
  MOVE_IDENTITY,
  MOVE_SETTINGS,
  unwrap,
  type WrapMoves,
  wrap,
} from './wrap.js';

const MAX_WORD = 256;
const versionShape = fields({
  stillpoint: is(text(MAX_WORD), 'the version of Stillpoint'),
  kernel: is(text(MAX_WORD), "the kernel's own name for its version"),
  node: is(text(MAX_WORD), 'the version of Node'),
});
/** A configuration of more bytes is none. */
const MAX_CONFIG = 1 << 20;
const SUFFIX = '.helper.cfg';
const CACHE = fileURLToPath(new URL('../../.cache/appliance/current', import.meta.url));

export interface WrapRequest {
  readonly file: string;
  /** The helper's file; by default beside the guest's. */
  readonly output?: string;
  /** The folder with vmlinux and initrd; by default STILLPOINT_APPLIANCE, else what `npm run appliance` made last. */
  readonly appliance?: string;
  readonly kernel?: string;
  readonly level?: CpuLevel;
  readonly overheadMib?: number;
  /** For moves to and from other hosts. */
  readonly moves?: Omit<WrapMoves, 'absolute'> & {
    /** A directory as `stillpoint host init` and `host trust` make it: the helper's key, and whom it trusts. */
    readonly identity: string;
  };
}

export interface WrapResult {
  readonly config: string;
  readonly initrd: string;
  readonly memoryMib: number;
  readonly warnings: readonly string[];
}

function readConfig(file: string): Buffer {
  const bytes = readFileSync(file);
  if (bytes.length > MAX_CONFIG)
    throw new Failure('bad-config', `${file}: a configuration of more than ${MAX_CONFIG} bytes is not read`);
  return bytes;
}

/** The same rule as of guests without an address in a daemon, so that a guest keeps its address when it is wrapped. */
export function madeMac(uuid: string, devid: number): string {
  const nobody = (message: string): never => {
    throw new Error(message);
  };
  const made = createHash('sha256').update(`${uuid} vif ${devid}`).digest();
  return vifSettings(
    parseVif('', nobody, () => undefined),
    made,
    '',
  ).mac;
}

/** Writes a file so that it appears whole. `make` is given the path to write to. */
function appear(file: string, make: (temporary: string) => void): void {
  const temporary = `${file}.${process.pid}.part`;
  try {
    make(temporary);
    renameSync(temporary, file);
  } finally {
    rmSync(temporary, { force: true });
  }
}

/** A file that is there already is written over only if `wrap` has made it. */
function mayWrite(file: string): void {
  if (!existsSync(file)) return;
  try {
    unwrap(readConfig(file), file);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new Failure('bad-config', `${file} is there already, and stillpoint wrap has not made it`);
  }
}

interface ApplianceFiles {
  readonly vmlinux: string;
  readonly initrd: string;
  /** About the appliance, for people. */
  readonly warnings: readonly string[];
}

function applianceFiles(given: string | undefined): ApplianceFiles {
  const folder = given ?? process.env.STILLPOINT_APPLIANCE ?? CACHE;
  const vmlinux = path.join(folder, 'vmlinux');
  const initrd = path.join(folder, 'initrd');
  for (const file of [vmlinux, initrd])
    if (!existsSync(file))
      throw new Failure(
        'bad-config',
        `the appliance has no ${file}: "npm run appliance" makes it, and --appliance says where it is`,
      );
  const warnings: string[] = [];
  const stamp = path.join(folder, 'version');
  const stillpoint = existsSync(stamp)
    ? check(versionShape, parseJson(readFileSync(stamp, 'utf8')), stamp).stillpoint
    : 'an unknown version';
  if (stillpoint !== VERSION)
    warnings.push(`the appliance in ${folder} has Stillpoint ${stillpoint}, and this is ${VERSION}`);
  if (folder === CACHE)
    warnings.push(
      `the appliance in ${folder} makes way for later builds: "npm run appliance -- DIR" puts it where it stays`,
    );
  // `current` is another build tomorrow; the helper's file names this one.
  return { vmlinux: realpathSync(vmlinux), initrd: realpathSync(initrd), warnings };
}

/** The files of a helper's identity, as they are to lie in the helper. */
function identityFiles(directory: string): CpioEntry[] {
  const names = ['key.pem', 'cert.pem'];
  try {
    names.push(...readdirSync(path.join(directory, 'identity/trusted')).filter(isTrusted).map(inTrusted));
    return names.map((name) => ({
      path: `${MOVE_IDENTITY}/${name}`.slice(1),
      mode: 0o600,
      data: readFileSync(path.join(directory, 'identity', name)),
    }));
  } catch (error) {
    throw new Failure(
      'bad-config',
      `${directory} has no identity ("stillpoint host --dir ${directory} init" makes one): ${(error as Error).message}`,
    );
  }
}
const isTrusted = (name: string): boolean => name.endsWith('.json');
const inTrusted = (name: string): string => `trusted/${name}`;

export async function wrapFiles(request: WrapRequest): Promise<WrapResult> {
  const { file, moves } = request;
  const folder = path.dirname(path.resolve(file));
  const output = path.resolve(request.output ?? file.replace(/([.]cfg)?$/, SUFFIX));
  const initrd = `${output.replace(/[.]cfg$/, '')}.initrd`;
  const appliance = applianceFiles(request.appliance);
  mayWrite(output);
  const wrapped = wrap(readConfig(file), {
    file,
    kernelPath: appliance.vmlinux,
    ramdiskPath: initrd,
    makeUuid: () => randomUUID(),
    makeMac: madeMac,
    localOffsetS,
    kernel: request.kernel === undefined ? undefined : path.resolve(request.kernel),
    level: request.level,
    overheadMib: request.overheadMib,
    moves: moves && { ...moves, absolute: (name) => (name === '' ? '' : path.resolve(folder, name)) },
  });
  const read = (what: string, name: string): Buffer => {
    try {
      return readFileSync(path.resolve(folder, name));
    } catch (error) {
      throw new Failure('bad-config', `${file}: ${what} ${name}: ${(error as Error).message}`);
    }
  };
  const given = read('kernel', kernelFile(wrapped.kernel));
  const ramdisk = wrapped.ramdisk === undefined ? undefined : read('ramdisk', wrapped.ramdisk);
  let kernel: Uint8Array;
  try {
    const elf = await unpackKernel(given, nodeUnpackers());
    // What would only be found out in the helper is said now.
    await loadImage({ kernel: elf, ramdisk, cmdline: wrapped.cmdline });
    // Node unpacks gzip faster, and with less memory, than what kernels are usually packed with.
    // A boot loader's image gets the guest's settings there.
    kernel = wrapped.kernel === BOOT_LOADER ? elf : gzipSync(elf);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    throw new Failure('bad-config', `${file}: kernel ${wrapped.kernel}: ${error.message}`);
  }
  const entry = (name: string, data: Uint8Array | string): CpioEntry => ({ path: name.slice(1), data });
  const archive = writeCpio([
    entry(GUEST_CONFIG, wrapped.guestConfig),
    entry(GUEST_KERNEL, kernel),
    ...(ramdisk === undefined ? [] : [entry(GUEST_RAMDISK, ramdisk)]),
    ...(moves === undefined
      ? []
      : [entry(MOVE_SETTINGS, JSON.stringify(wrapped.moves)), ...identityFiles(moves.identity)]),
  ]);
  appear(initrd, (temporary) => {
    copyFileSync(appliance.initrd, temporary);
    // It has the helper's key.
    if (moves !== undefined) chmodSync(temporary, 0o600);
    const end = openSync(temporary, 'a');
    try {
      writeFileSync(end, archive);
    } finally {
      closeSync(end);
    }
  });
  const { config, memoryMib } = wrapped.helper(kernel.length + (ramdisk?.length ?? 0));
  appear(output, (temporary) => writeFileSync(temporary, config));
  return { config: output, initrd, memoryMib, warnings: [...wrapped.warnings, ...appliance.warnings] };
}

/** The guest's file out of that of its helper; into `output`, if it is given. */
export function unwrapFile(file: string, output: string | undefined): Buffer {
  const source = unwrap(readConfig(file), file);
  if (output !== undefined) appear(path.resolve(output), (temporary) => writeFileSync(temporary, source));
  return source;
}
