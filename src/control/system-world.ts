/** The real world: this machine. */
import { join } from 'node:path';
import { loadRunner } from '../guest-process/entry-points.js';
import { DATA_SOCKET } from '../guest-process/guest-files.js';
import { createImage, openImage } from '../migration/image-file.js';
import { thisBoot } from '../os/boot.js';
import { systemChance, systemClock } from '../os/clock.js';
import { competeAgain, yieldToOthers } from '../os/cpu-priority.js';
import { duplexPair } from '../os/duplex-pair.js';
import { systemFiles } from '../os/files.js';
import { connectOwnSocket, readForeign } from '../os/foreign-directory.js';
import { hostMemory } from '../os/host-memory.js';
import { killedBecause, wordsOfEnd } from '../os/process-end.js';
import { loadIdentity } from '../transport/identity.js';
import { connectPeer } from '../transport/peer.js';
import { cutLog, keepLogs, lastLine, sizeOfDirectory } from './domains/process-log.js';
import {
  connectGuest,
  deathOf,
  isAlive,
  killProcess,
  socketOf,
  spawnGuest,
  startTicks,
} from './domains/spawn.js';
import type { GuestProcesses, World } from './world.js';

/** How much of a process's log can hold the lines that guest-launcher.ts prints first. */
const LOG_BEGINNING = 64 << 10;
const SANDBOX_LINE = 'sandbox: ';

const processes: GuestProcesses = {
  get haveOwnUsers() {
    return process.getuid?.() === 0;
  },
  start: spawnGuest,
  connect: connectGuest,
  connectData: (directory) => connectOwnSocket(join(directory, DATA_SOCKET)),
  isAlive,
  diesWithin: deathOf,
  async kill(id, because) {
    // A reason is recorded only for a process that was alive.
    if (isAlive(id)) killedBecause(id.pid, because);
    await killProcess(id);
  },
  howEnded: ({ pid }) => wordsOfEnd(pid),
  lastLine: ({ log }) => lastLine(log),
  confinement: ({ log }) =>
    readForeign(log, LOG_BEGINNING, 'end')
      .split('\n')
      .filter((line) => line.startsWith(SANDBOX_LINE)),
  lookAfter({ directory, log }, most, except) {
    cutLog(log);
    return sizeOfDirectory(directory, most, except);
  },
  keepLogs,
  traces: (places) => [places.log, `${places.log}.1`, socketOf(places)],
  yieldToOthers: ({ pid }) => yieldToOthers(pid),
  competeAgain: ({ pid }) => competeAgain(pid),
  runner: loadRunner,
};

export const systemWorld: World = {
  clock: systemClock,
  chance: systemChance,
  files: systemFiles,
  processes,
  images: { create: createImage, open: openImage },
  hosts: {
    toItself: duplexPair,
    connect: (dir, peer, trusted, handlers) => connectPeer(peer, loadIdentity(dir), trusted, handlers),
  },
  memory: hostMemory,
  boot: thisBoot(),
  get self() {
    return { pid: process.pid, startTicks: startTicks(process.pid) ?? 0, boot: thisBoot() };
  },
};
