// npm run soak -- xen [--short]: a real Xen (soak/lib/xen-bed) and stock `xl` on it. First the peers: Debian's Linux as a
// plain PV domain and in Xen's PV shim, each friendly and wild (its suspend handler is not registered), is saved, restored
// and migrated, or cannot be. Then the appliance is proved by itself (lib/xen-bed/appliance-proof.ts), and helper domains
// around such guests live through the same and more (lib/xen-bed/lives.ts); at last guests move between this machine and
// Xen (lib/xen-bed/linux-moves.ts). --short: the small kernel's life alone.
import { ensureAppliance } from '../scripts/lib/appliance.js';
import { NoPackages } from '../scripts/lib/debian.js';
import { messageOf } from '../scripts/lib/errors.js';
import { ensureGuests } from '../scripts/lib/guests.js';
import { type SoakRow, soaked } from './lib/soaked.js';
import { proofFiles, proveAppliance } from './lib/xen-bed/appliance-proof.js';
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

interface Peer {
  readonly name: string;
  readonly about: string;
  readonly words: string;
  readonly lines: string;
  /** Whether it can be saved, by Xen's rules, and migrated. */
  readonly saves: boolean;
  readonly migrates: boolean;
}
const PEERS: readonly Peer[] = [
  { name: 'wild', about: 'wild, a PV domain', words: WILD, lines: '', saves: false, migrates: false },
  { name: 'friendly', about: 'friendly, a PV domain', words: '', lines: '', saves: true, migrates: false },
  { name: 'shimwild', about: 'wild, in PV shim', words: WILD, lines: SHIM, saves: false, migrates: false },
  { name: 'shim', about: 'friendly, in PV shim', words: '', lines: SHIM, saves: true, migrates: true },
];

const config = ({ name, words, lines }: Peer): string =>
  [
    `name = "${name}"`,
    'kernel = "/s/vmlinux"',
    'ramdisk = "/s/initramfs"',
    `extra = "console=hvc0 rdinit=/init ${words}"`,
    `memory = ${MEMORY_MIB}`,
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

/** One run of all; true if it came to its end. */
async function run(): Promise<boolean> {
  const appliance = await ensureAppliance();
  const guests = short ? undefined : await ensureGuests();
  const { files, memoryMib } = await filesOfLives(appliance, guests);
  if (guests !== undefined)
    Object.assign(files, await proofFiles(appliance), {
      vmlinux: guests.vmlinux,
      initramfs: guests.initramfs,
    });
  const began = performance.now();
  const port = await freePorts();
  const bed = await XenBed.up({ files, more: networkOf(port) });
  try {
    console.log(`a real Xen answers after ${seconds((performance.now() - began) / 1000)}`);
    console.log((await bed.must('xl info | grep -E "^(xen_version|virt_caps|free_memory)"', 30)).trim());
    if (!short) for (const peer of PEERS) await ask(bed, peer);
    if (!short) rows.push(...(await proveAppliance(bed, appliance)));
    for (const named of short ? [SHORT_LIFE] : LIVES)
      shown(named, await named.live(bed, memoryMib[named.name] ?? 0));
    if (!short) rows.push(...(await proveLinuxMoves(bed, appliance, guests, port)));
    return true;
  } catch (error) {
    const failures = bed.emulatorFailures();
    if (failures === 0) throw error;
    console.log(
      `the bed failed ${failures} times (a triple fault in Xen's own code, or xenstored gone): again`,
    );
    return false;
  } finally {
    await bed.down();
  }
}

try {
  for (let attempt = 1; !(await run()); attempt++) {
    rows.length = 0;
    table.length = 0;
    if (attempt < ATTEMPTS) continue;
    noted(`the bed lives long enough at one of ${ATTEMPTS} attempts`, false);
    break;
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
