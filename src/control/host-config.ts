/**
 * How this host differs from others: the outer values that a guest must never see. From a JSON file, so that two
 * hosts on one machine can be as unlike as two real ones. docs/hosts.md lists the keys.
 */
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseLinkAddress } from '../net/links/address.js';
import { Failure } from '../protocol/failure.js';

export interface HostConfig {
  /** As `xl info` shows it. */
  readonly xenVersion: string;
  readonly cpuModel: string;
  readonly tscKhz: number;
  /** Seconds added to the machine's uptime and to its wall clock. */
  readonly uptimeS: number;
  readonly wallClockS: number;
  /** The first domain id that this host gives, and the greatest before it begins again from 1. */
  readonly firstDomid: number;
  readonly maxDomid: number;
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
  /** Links for guests' vifs, by bridge; "default" for those that name none (docs/networks.md). */
  readonly networks: Readonly<Record<string, string>>;
  /** Folders of disks, as guests' configurations name them, and where they are here (docs/disks.md). */
  readonly images: Readonly<Record<string, string>>;
  /** Seconds that whoever a move waits for may take to answer, before the move is given up (docs/handover.md). */
  readonly moveAnswerS: number;
  /** Folders whose files an image may name as lying beneath it: any guest's image may (docs/disks.md). */
  readonly backing: readonly string[];
  /** The same of kernels and ramdisks. */
  readonly kernels: Readonly<Record<string, string>>;
  /** Module that runs guests; for other kinds of guests, and for tests. */
  readonly runner: string;
}

function defaults(): HostConfig {
  const [cpu] = cpus();
  return {
    xenVersion: '4.17.0',
    cpuModel: cpu?.model ?? 'unknown',
    tscKhz: Math.max(cpu?.speed ?? 0, 1000) * 1000,
    uptimeS: 0,
    wallClockS: 0,
    firstDomid: 1,
    maxDomid: 0x7fef,
    guestUid: 0x10_0000,
    guestOverheadMib: 1024,
    guestProcesses: 1024,
    guestFileMib: 65_536,
    guestFolders: [],
    dataPorts: '',
    greetingS: 10,
    networks: {},
    images: {},
    moveAnswerS: 30,
    backing: [],
    kernels: {},
    runner: new URL('../guest-process/pv-runner.js', import.meta.url).href,
  };
}

/** Reads the file, or gives the defaults where `path` is undefined. Unknown keys and wrong types are named. */
export function loadHostConfig(path: string | undefined): HostConfig {
  const config: Record<string, unknown> = { ...defaults() };
  if (path === undefined) return config as unknown as HostConfig;
  let given: unknown;
  try {
    given = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new Failure('bad-config', `${path}: ${(error as Error).message}`);
  }
  if (typeof given !== 'object' || given === null)
    throw new Failure('bad-config', `${path}: an object expected`);
  for (const [key, value] of Object.entries(given)) {
    if (!Object.hasOwn(config, key)) throw new Failure('bad-config', `${path}: unknown key ${key}`);
    if (typeof value !== typeof config[key] || (typeof value === 'number' && !Number.isFinite(value))) {
      throw new Failure('bad-config', `${path}: ${key} must be a ${typeof config[key]}`);
    }
    config[key] = value;
  }
  const checked = config as unknown as HostConfig;
  checkNetworks(checked.networks, path);
  checkFolders('images', checked.images, path);
  checkFolders('kernels', checked.kernels, path);
  const { backing } = checked;
  if (
    !Array.isArray(backing) ||
    !backing.every((folder) => typeof folder === 'string' && /^\/.*[^/]$/.test(folder))
  )
    throw new Failure('bad-config', `${path}: backing: folders by their whole paths expected`);
  const folders: unknown = checked.guestFolders;
  if (!Array.isArray(folders) || !folders.every((f) => typeof f === 'string' && f.startsWith('/')))
    throw new Failure('bad-config', `${path}: guestFolders: a list of folders by their whole paths expected`);
  if (checked.firstDomid < 1 || checked.maxDomid > 0x7fef || checked.firstDomid > checked.maxDomid) {
    throw new Failure('bad-config', `${path}: domain ids go from 1 to ${0x7fef}`);
  }
  if (checked.moveAnswerS < 1 || checked.moveAnswerS > 3600)
    throw new Failure('bad-config', `${path}: moveAnswerS is from 1 to 3600 seconds`);
  if (!(checked.greetingS > 0 && checked.greetingS <= 3600))
    throw new Failure('bad-config', `${path}: greetingS must be more than 0 and at most 3600`);
  if (checked.dataPorts !== '' && !/^\d+-\d+$/.test(checked.dataPorts)) {
    throw new Failure('bad-config', `${path}: dataPorts must be FIRST-LAST`);
  }
  return checked;
}

function checkFolders(key: string, folders: Readonly<Record<string, unknown>>, path: string): void {
  const isFolder = (text: unknown): boolean =>
    typeof text === 'string' && /^\/.*[^/]$/.test(text) && !/\/\.\.?(\/|$)/.test(text);
  for (const [folder, here] of Object.entries(folders)) {
    if (!isFolder(folder) || !isFolder(here))
      throw new Failure(
        'bad-config',
        `${path}: ${key}: ${folder}: two folders by their whole paths expected`,
      );
  }
}

function checkNetworks(networks: Readonly<Record<string, unknown>>, path: string): void {
  for (const [name, link] of Object.entries(networks)) {
    try {
      if (typeof link !== 'string') throw new Error('a link, as "switch:unix:PATH", is expected');
      parseLinkAddress(link);
    } catch (error) {
      throw new Failure('bad-config', `${path}: networks: ${name}: ${(error as Error).message}`);
    }
  }
}

/** The ports to try for arriving data, in order; [0] means any. */
export function dataPorts(config: HostConfig): number[] {
  if (config.dataPorts === '') return [0];
  const [first, last] = config.dataPorts.split('-').map(Number);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i);
}
