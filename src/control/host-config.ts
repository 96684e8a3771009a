/**
 * A host's configuration: one JSON file with the keys of the daemon, below, and the keys of the host's platform,
 * which are the outer values that a guest must never see. docs/hosts.md lists all of them.
 */
import { readFileSync } from 'node:fs';
import * as v from 'valibot';
import { PV_RUNNER } from '../guest-process/entry-points.js';
import type { HostPlatform } from '../host/platform.js';
import { DEFAULT_PLATFORM, loadPlatform } from '../host/platforms.js';
import { check } from '../protocol/check.js';
import { Failure } from '../protocol/failure.js';
import { parseJson } from '../protocol/json.js';
import { between, count, fields, many, named, quantity, text, yes } from '../protocol/shapes.js';

const MAX_FOLDERS = 4096;

export interface HostConfig {
  /** The platform of this host, by its name in src/host/platforms.ts. */
  readonly platform: string;
  /** If the daemon runs as root, guest processes get the user and group id guestUid + domain id. */
  readonly guestUid: number;
  /** Memory of a guest process beyond its guest's RAM, in MiB. */
  readonly guestOverheadMib: number;
  /** How many processes and threads a guest's process may have, if it has a user of its own. */
  readonly guestProcesses: number;
  /**
   * The longest file that a guest's process may write, in MiB; if its longest disk is longer, the length of that
   * disk.
   */
  readonly guestFileMib: number;
  /** How much space the cores of guests that crashed may use, in MiB; the newest stays in any case. */
  readonly coresMib: number;
  /** How much memory all guests may have together, MiB; 0: 95 % of the machine's. */
  readonly memoryMib: number;
  /** How many domains there may be; 0: any number. */
  readonly guests: number;
  /** The most memory, MiB, and the most vCPUs that one guest may have; 0: as any guest. */
  readonly guestMemoryMib: number;
  readonly guestVcpus: number;
  /** Guests may have more memory than the host has. */
  readonly overcommit: boolean;
  /** Folders that guests' processes may write to, besides their own and their disks. This is for other runners. */
  readonly guestFolders: readonly string[];
  /** Ports for the data of arriving guests, "FIRST-LAST"; "" for any. */
  readonly dataPorts: string;
  /** Seconds from the start of a connection within which another host must authenticate and send its greeting. */
  readonly greetingS: number;
  /** Seconds that each party of a move may take to answer before the move is given up (docs/handover.md). */
  readonly moveAnswerS: number;
  /** Folders of kernels and ramdisks, as guests' configurations name them, and where they are here. */
  readonly kernels: Readonly<Record<string, string>>;
  /** The module that runs guests; for other kinds of guests, and for tests. */
  readonly runner: string;
}

/** A folder by its whole path. */
const folder = v.pipe(
  text(4096),
  v.check(
    (path) => /^\/.*[^/]$/.test(path) && !/\/\.\.?(\/|$)/.test(path),
    'a folder by its whole path is expected',
  ),
);
/** What this host is like; the platform's own keys are looked at by the platform. */
const hostConfig: v.GenericSchema<unknown, HostConfig> = fields({
  platform: text(64),
  guestUid: quantity,
  guestOverheadMib: quantity,
  guestProcesses: quantity,
  guestFileMib: quantity,
  coresMib: between(0, 2 ** 30),
  memoryMib: count,
  guests: count,
  guestMemoryMib: count,
  guestVcpus: count,
  overcommit: yes,
  guestFolders: many(
    v.pipe(text(4096), v.startsWith('/', 'a folder by its whole path is expected')),
    MAX_FOLDERS,
  ),
  dataPorts: v.pipe(text(64), v.regex(/^(\d+-\d+)?$/, 'must be FIRST-LAST')),
  greetingS: v.pipe(between(0, 3600), v.gtValue(0, 'must be more than 0')),
  moveAnswerS: between(1, 3600),
  networks: v.optional(named(text(4096)), {}),
  images: v.optional(named(text(4096)), {}),
  kernels: v.record(folder, folder),
  backing: v.optional(many(text(4096), MAX_FOLDERS), []),
  runner: text(4096),
});

/** Defaults of the keys that do not belong to a platform. */
function defaults() {
  return {
    platform: DEFAULT_PLATFORM,
    guestUid: 0x10_0000,
    guestOverheadMib: 1024,
    guestProcesses: 1024,
    guestFileMib: 65_536,
    coresMib: 16_384,
    memoryMib: 0,
    guests: 0,
    guestMemoryMib: 0,
    guestVcpus: 0,
    overcommit: false,
    guestFolders: [] as readonly string[],
    dataPorts: '',
    greetingS: 10,
    moveAnswerS: 30,
    kernels: {},
    runner: PV_RUNNER,
  };
}

/** A host as its configuration file describes it. */
export interface ConfiguredHost {
  readonly config: HostConfig;
  readonly platform: HostPlatform;
}

/**
 * Reads the file, or takes the defaults if `path` is undefined, and opens the platform that it names for the host
 * called `hostName`. An error names the unknown key or the key with a wrong type.
 */
export async function openHostConfig(path: string | undefined, hostName: string): Promise<ConfiguredHost> {
  const fail = (why: string): never => {
    throw new Failure('bad-config', `${path}: ${why}`);
  };
  const given = path === undefined ? {} : readObject(path);
  const general = defaults();
  const { platform: kind = general.platform } = given;
  if (typeof kind !== 'string') return fail('platform must be a string');
  const module = await loadPlatform(kind).catch((error: Error) => fail(error.message));
  const own = Object.keys(module.defaultSettings());
  const config: Record<string, unknown> = { ...general, ...module.defaultSettings() };
  for (const [key, value] of Object.entries(given)) {
    if (!Object.hasOwn(config, key)) fail(`unknown key ${key}`);
    if (
      value === null ||
      typeof value !== typeof config[key] ||
      (typeof value === 'number' && !Number.isFinite(value))
    )
      fail(`${key} must be a ${typeof config[key]}`);
    config[key] = value;
  }
  const settings = Object.fromEntries(own.map((key) => [key, config[key]]));
  try {
    const platform = await module.open(hostName, settings);
    return { config: check(hostConfig, config, 'this host'), platform };
  } catch (error) {
    return fail((error as Error).message);
  }
}

const object = v.record(v.string(), v.unknown());

function readObject(path: string): Record<string, unknown> {
  let given: unknown;
  try {
    given = parseJson(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new Failure('bad-config', `${path}: ${(error as Error).message}`);
  }
  if (!v.is(object, given)) throw new Failure('bad-config', `${path}: an object expected`);
  return given;
}

/** The ports to try for arriving data, in order; [0] means any port. */
export function dataPorts(config: HostConfig): number[] {
  if (config.dataPorts === '') return [0];
  const [first, last] = config.dataPorts.split('-').map(Number);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i);
}
