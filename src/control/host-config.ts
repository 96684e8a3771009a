/**
 * A host's configuration: one JSON file with the keys of the daemon, below, and those of the host's platform, which are
 * the outer values that a guest must never see. docs/hosts.md lists all of them.
 */
import { readFileSync } from 'node:fs';
import { PV_RUNNER } from '../guest-process/entry-points.js';
import type { HostPlatform } from '../host/platform.js';
import { DEFAULT_PLATFORM, loadPlatform } from '../host/platforms.js';
import { Failure } from '../protocol/failure.js';

export interface HostConfig {
  /** What this host stands on, as src/host/platforms.ts has it. */
  readonly platform: string;
  /** Guest processes of a daemon that runs as root get the user and group id guestUid + domain id. */
  readonly guestUid: number;
  /** Memory of a guest process beyond its guest's RAM, in MiB. */
  readonly guestOverheadMib: number;
  /** Of a guest's process that has a user of its own: as many processes and threads. */
  readonly guestProcesses: number;
  /** The longest file that a guest's process may write, in MiB, where its longest disk is not longer. */
  readonly guestFileMib: number;
  /** Folders that guests' processes may write, beside their own and their disks; for other runners. */
  readonly guestFolders: readonly string[];
  /** Ports for the data of arriving guests, "FIRST-LAST"; "" for any. */
  readonly dataPorts: string;
  /** Seconds that another host has, from its connection on, to prove who it is and to say hello. */
  readonly greetingS: number;
  /** Seconds that whoever a move waits for may take to answer, before the move is given up (docs/handover.md). */
  readonly moveAnswerS: number;
  /** Folders of kernels and ramdisks, as guests' configurations name them, and where they are here. */
  readonly kernels: Readonly<Record<string, string>>;
  /** Module that runs guests; for other kinds of guests, and for tests. */
  readonly runner: string;
}

/** The keys that are no platform's. */
function defaults() {
  return {
    platform: DEFAULT_PLATFORM,
    guestUid: 0x10_0000,
    guestOverheadMib: 1024,
    guestProcesses: 1024,
    guestFileMib: 65_536,
    guestFolders: [] as readonly string[],
    dataPorts: '',
    greetingS: 10,
    moveAnswerS: 30,
    kernels: {},
    runner: PV_RUNNER,
  };
}

/** A host as its configuration file has it. */
export interface ConfiguredHost {
  readonly config: HostConfig;
  readonly platform: HostPlatform;
}

/**
 * Reads the file, or gives the defaults where `path` is undefined, and opens the platform that it names for the host
 * called `hostName`. Unknown keys and wrong types are named.
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
  const checked = config as unknown as HostConfig;
  const settings = Object.fromEntries(own.map((key) => [key, config[key]]));
  try {
    module.checkSettings(settings);
    checkFolders('kernels', checked.kernels);
  } catch (error) {
    fail((error as Error).message);
  }
  const folders: unknown = checked.guestFolders;
  if (!Array.isArray(folders) || !folders.every((f) => typeof f === 'string' && f.startsWith('/')))
    fail('guestFolders: a list of folders by their whole paths expected');
  if (checked.moveAnswerS < 1 || checked.moveAnswerS > 3600) fail('moveAnswerS is from 1 to 3600 seconds');
  if (!(checked.greetingS > 0 && checked.greetingS <= 3600))
    fail('greetingS must be more than 0 and at most 3600');
  if (checked.dataPorts !== '' && !/^\d+-\d+$/.test(checked.dataPorts)) fail('dataPorts must be FIRST-LAST');
  return { config: checked, platform: module.open(hostName, settings) };
}

function readObject(path: string): Record<string, unknown> {
  let given: unknown;
  try {
    given = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new Failure('bad-config', `${path}: ${(error as Error).message}`);
  }
  if (typeof given !== 'object' || given === null)
    throw new Failure('bad-config', `${path}: an object expected`);
  return given as Record<string, unknown>;
}

function checkFolders(key: string, folders: Readonly<Record<string, unknown>>): void {
  const isFolder = (text: unknown): boolean =>
    typeof text === 'string' && /^\/.*[^/]$/.test(text) && !/\/\.\.?(\/|$)/.test(text);
  for (const [folder, here] of Object.entries(folders))
    if (!isFolder(folder) || !isFolder(here))
      throw new Error(`${key}: ${folder}: two folders by their whole paths expected`);
}

/** The ports to try for arriving data, in order; [0] means any. */
export function dataPorts(config: HostConfig): number[] {
  if (config.dataPorts === '') return [0];
  const [first, last] = config.dataPorts.split('-').map(Number);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i);
}
