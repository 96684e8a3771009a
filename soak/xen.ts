// npm run soak -- xen [--short] [PART...]: a real Xen (soak/lib/xen-bed) and stock `xl` on it. First the peers: Debian's Linux as a
// plain PV domain and in Xen's PV shim, each friendly and wild (its suspend handler is not registered), is saved, restored
// and migrated, or cannot be. Then the appliance is proved by itself (lib/xen-bed/appliance-proof.ts), and helper domains
// around such guests live through the same and more (lib/xen-bed/lives.ts); at last guests move between this machine and
// Xen (lib/xen-bed/linux-moves.ts). A last peer is the idea's first way: Xen, dom0 and the guest in one machine that is
// migrated as a whole (lib/xen-bed/inner-machine.ts). --short: the small kernel's life alone. PART: peers, machine,
// appliance, small, wild1, wild2, linux.
import { ensureAppliance } from '../scripts/lib/appliance.js';
import { NoPackages } from '../scripts/lib/debian.js';
import { messageOf } from '../scripts/lib/errors.js';
import { ensureGuests, type Guests } from '../scripts/lib/guests.js';
import { type SoakRow, soaked } from './lib/soaked.js';
import { proofFiles, proveAppliance } from './lib/xen-bed/appliance-proof.js';
import { EmulatorFailed } from './lib/xen-bed/emulator-failures.js';
import { innerMachine } from './lib/xen-bed/inner-machine.js';
import { freePorts, networkOf, proveLinuxMoves } from './lib/xen-bed/linux-moves.js';
import { filesOfLives, LIVES, type Life, type NamedLife, SHORT_LIFE } from './lib/xen-bed/lives.js';
import { XenBed } from './lib/xen-bed/xen-bed.js';
import { type Answer, XlGuest } from './lib/xen-bed/xl-guest.js';

const short = process.argv.includes('--short');
const MEMORY_MIB = 128;
const ATTEMPTS = 3;
const MIB = 2 ** 20;
/** How long a guest may take in the emulator until its shell answers, s. */
const BOOT_S = 180;
const WILD = 'initcall_blacklist=xen_setup_shutdown_event';
const SHIM = 'type = "pvh"\npvshim = 1';
/** The shim keeps so much for itself that a kernel with its ramdisk does not fit into less, MiB. */
const SHIM_MIB = 320;

interface Peer {
  readonly name: string;
  readonly about: string;
  readonly words: string;
  readonly lines: string;
  readonly memoryMib: number;
  /** Whether it can be saved, by Xen's rules, and migrated. */
  readonly saves: boolean;
  readonly migrates: boolean;
}
const PEERS: readonly Peer[] = [
  {
    name: 'wild',
    about: 'wild, a PV domain',
    words: WILD,
    lines: '',
    memoryMib: MEMORY_MIB,
    saves: false,
    migrates: false,
  },
  {
    name: 'friendly',
    about: 'friendly, a PV domain',
    words: '',
    lines: '',
    memoryMib: MEMORY_MIB,
    saves: true,
    migrates: false,
  },
  {
    name: 'shimwild',
    about: 'wild, in PV shim',
    words: WILD,
    lines: SHIM,
    memoryMib: SHIM_MIB,
    saves: false,
    migrates: false,
  },
  {
    name: 'shim',
    about: 'friendly, in PV shim',
    words: '',
    lines: SHIM,
    memoryMib: SHIM_MIB,
    saves: true,
    migrates: true,
  },
];

const config = ({ name, words, lines, memoryMib }: Peer): string =>
  [
    `name = "${name}"`,
    'kernel = "/s/vmlinux"',
    'ramdisk = "/s/initramfs"',
    `extra = "console=hvc0 rdinit=/init ${words}"`,
    `memory = ${memoryMib}`,
    'vcpus = 1',
    lines,
    '',
  ].join('\n');

const rows: SoakRow[] = [];
const table: string[][] = [];
const noted = (property: string, holds: boolean): void =>
  void rows.push({ property, cases: 1, failures: holds ? 0 : 1 });
const seconds = (s: number): string => `${s.toFixed(1)} s`;
const told = ({ status, seconds: s, words }: Answer): string =>
  status === 0 ? seconds(s) : `fails after ${seconds(s)}: ${words}`;
/** The middle one. */
const middle = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;

async function ask(bed: XenBed, peer: Peer): Promise<void> {
  const { name, about, saves, migrates } = peer;
  const guest = new XlGuest(bed, name);
  await bed.put(Buffer.from(config(peer)), `/s/${name}.cfg`);
  const began = performance.now();
  await guest.create();
  await guest.until(/# /, BOOT_S);
  const booted = (performance.now() - began) / 1000;
  // What the guest itself needs is the same in all of them.
  const beyond = (await guest.memoryMib()) - MEMORY_MIB;
  const migrate = await guest.ask(guest.migration);
  noted(
    `${about}: xl migrate ${migrates ? 'works' : 'fails'}, and it lives on`,
    (migrate.status === 0) === migrates && (await guest.lives()),
  );
  const save = await guest.ask(guest.saving);
  let restore: Answer | undefined;
  if (saves) {
    restore = await guest.ask(guest.restoring);
    noted(`${about}: xl save and xl restore work`, save.status === 0 && restore.status === 0);
  } else noted(`${about}: xl save fails, and it lives on`, save.status !== 0 && (await guest.lives()));
  await guest.destroy();
  await bed.run(`rm -f /s/${name}.save`, 60);
  table.push([
    about,
    seconds(booted),
    `${beyond} MiB`,
    told(migrate),
    '',
    '',
    told(save),
    restore === undefined ? '' : told(restore),
  ]);
}

function shown({ about, guestMib }: NamedLife, life: Life): void {
  const { firstS, memoryMib, moves, saves, restores } = life;
  rows.push(...life.rows);
  table.push([
    about,
    seconds(firstS),
    `${memoryMib - guestMib} MiB`,
    seconds(middle(moves.map((m) => m.seconds))),
    seconds(middle(moves.map((m) => m.outageS))),
    `${(middle(moves.map((m) => m.bytes)) / MIB).toFixed(0)} MiB`,
    saves.length === 0 ? '' : seconds(middle(saves.map((m) => m.seconds))),
    restores.length === 0 ? '' : seconds(middle(restores)),
  ]);
}

/** The idea's first way, in a machine of its own. */
async function whole(guests: Guests): Promise<void> {
  const { shellS, beyondMib, moves, differences, wallClockS } = await innerMachine(guests);
  const about = 'wild, in a machine with its own Xen and dom0';
  noted(`${about}: migrates as a whole, and sees no difference`, moves.length > 0 && differences === 0);
  console.log(`${about}: its wall clock is ${wallClockS.toFixed(1)} s off after ${moves.length} moves`);
  table.push([
    about,
    seconds(shellS),
    `${beyondMib} MiB`,
    seconds(middle(moves.map((m) => m.seconds))),
    seconds(middle(moves.map((m) => m.stoppedS))),
    `${(middle(moves.map((m) => m.bytes)) / MIB).toFixed(0)} MiB`,
    '',
    '',
  ]);
}

/** A part of the soak: with a bed of its own, so that a failure of the emulator costs no other part. */
interface Part {
  readonly name: string;
  readonly run: () => Promise<void>;
}

async function partsOf(): Promise<Part[]> {
  const appliance = await ensureAppliance();
  const guests = short ? undefined : await ensureGuests();
  const { files, memoryMib } = await filesOfLives(appliance, guests);
  const inBed = (name: string, live: (bed: XenBed) => Promise<void>, more?: readonly string[]): Part => ({
    name,
    run: () => XenBed.with({ files, more }, live),
  });
  const lives = (short ? [SHORT_LIFE] : LIVES).map((named) =>
    inBed(named.name, async (bed) => shown(named, await named.live(bed, memoryMib[named.name] ?? 0))),
  );
  if (guests === undefined) return lives;
  const { vmlinux, initramfs } = guests;
  Object.assign(files, await proofFiles(appliance), { vmlinux, initramfs });
  const port = await freePorts();
  return [
    inBed('peers', async (bed) => {
      for (const peer of PEERS) await ask(bed, peer);
    }),
    { name: 'machine', run: () => whole(guests) },
    inBed('appliance', async (bed) => void rows.push(...(await proveAppliance(bed, appliance)))),
    ...lives,
    inBed(
      'linux',
      async (bed) => void rows.push(...(await proveLinuxMoves(bed, appliance, guests, port))),
      networkOf(port),
    ),
  ];
}

/** Again, and counted aloud, where the emulator itself has failed. */
async function lived({ name, run }: Part): Promise<void> {
  const [noRows, noTable] = [rows.length, table.length];
  for (let attempt = 1; ; attempt++) {
    const began = performance.now();
    try {
      await run();
      console.log(`${name}: ${seconds((performance.now() - began) / 1000)}`);
      return;
    } catch (error) {
      if (!(error instanceof EmulatorFailed) || attempt === ATTEMPTS) throw error;
      console.log(`${name}: attempt ${attempt} of ${ATTEMPTS}: ${error.message}`);
      rows.length = noRows;
      table.length = noTable;
    }
  }
}

try {
  const parts = await partsOf();
  const only = process.argv.slice(2).filter((word) => !word.startsWith('-'));
  const unknown = only.find((name) => !parts.some((part) => part.name === name));
  if (unknown !== undefined)
    throw new Error(`${unknown} is no part of it; there are ${parts.map(({ name }) => name).join(', ')}`);
  for (const part of parts) {
    if (only.length > 0 && !only.includes(part.name)) continue;
    try {
      await lived(part);
    } catch (error) {
      console.log(messageOf(error));
      noted(`${part.name} comes to its end`, false);
    }
  }
} catch (error) {
  if (!(error instanceof NoPackages)) console.log(messageOf(error));
  else console.log(`no real Xen here: ${messageOf(error)}`);
  noted('every life comes to its end', false);
}
const HEAD = [
  'guest',
  'to its shell',
  'memory beyond the guest',
  'xl migrate',
  'stands still',
  'sent',
  'xl save',
  'xl restore',
];
console.log([HEAD, HEAD.map(() => '---'), ...table].map((cells) => `| ${cells.join(' | ')} |`).join('\n'));
soaked(rows);
