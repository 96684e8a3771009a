// Lives of PV guests in helper domains on the bed's real Xen, moved by stock xl alone.
import type { Appliance } from '../../../scripts/lib/appliance.js';
import { ramdiskWithPrograms } from '../../../scripts/lib/daemons.js';
import type { Guests } from '../../../scripts/lib/guests.js';
import { DISK_WROTE } from '../../../src/demo/disk-writer.js';
import { smallKernelElf } from '../../../src/demo/small-kernel.js';
import { VERDICT, type Verdict, verdictIn } from '../../../src/demo/verdict.js';
import type { SoakRow } from '../soaked.js';
import { APPLIANCE_KERNEL, type HelperOptions, helperDomain } from './helper-domain.js';
import type { XenBed } from './xen-bed.js';
import { type Moved, XlGuest } from './xl-guest.js';

/** How long a guest may take in the emulator until it has done its first things, s. */
const BOOT_S = 400;
const SAY_S = 240;
const SHELL = /guest# /;
const MAC = '00:16:3e:77:00:10';
const DOM0 = '192.168.77.1';
const GUEST = '192.168.77.10';
const PORT = 8000;
const DISK_BYTES = 16 << 20;
const MIB = 2 ** 20;
const LESS_MIB = 16;
/** Longer than the kernel's watchdogs wait. */
const PAUSE_S = 40;
/** Wall clocks of dom0 and guest may be apart by so much, ns. */
const WALL_CLOCK_NS = 1e9;

const SMALL = 'small';
const DEBIAN = 'wild1';
const TWO = 'wild2';

type Files = Record<string, string | Uint8Array>;

/** What a life measured, for the table. */
export interface Life {
  readonly rows: SoakRow[];
  /** By xl migrate, each with how long the guest stood still by it, s. */
  readonly moves: (Moved & { readonly outageS: number })[];
  readonly saves: Moved[];
  readonly restores: number[];
  /** From `xl create` to the guest's first words, of its shell if it has one, s. */
  readonly firstS: number;
  /** Of the helper, in all. */
  readonly memoryMib: number;
}

/** The files of each guest that dom0 needs in /s, and the sizes of their helpers, by name. */
export async function filesOfLives(
  appliance: Appliance,
  guests: Guests | undefined,
): Promise<{ readonly files: Files; readonly memoryMib: Readonly<Record<string, number>> }> {
  const files: Files = { [APPLIANCE_KERNEL]: appliance.vmlinux };
  const memoryMib: Record<string, number> = {};
  const add = async (name: string, guest: string, guestFiles: HelperOptions['guestFiles']): Promise<void> => {
    // More words for who looks for a fault: with loglevel=7 the helper's Linux tells on the console what it does.
    const kernelWords = `mitigations=off ${process.env.STILLPOINT_HELPER_WORDS ?? ''}`;
    const made = await helperDomain(appliance, { name, guest, guestFiles, kernelWords });
    files[`${name}.cfg`] = Buffer.from(made.config);
    files[`${name}.initrd`] = made.initrd;
    memoryMib[name] = made.memoryMib;
  };
  await add(SMALL, 'kernel = "kernel"\nextra = "interval_ms=50"\nmemory = 16\n', {
    kernel: smallKernelElf(),
  });
  if (guests !== undefined) {
    // By default Xen emulates RDTSC for domains of an emulator, whose TSC is not invariant: Node and Linux read it often.
    // A guest without devices at its boot loads their drivers when it is told to.
    const linux = (more: string): string =>
      `kernel = "kernel"\nramdisk = "ramdisk"\nextra = "console=hvc0 rdinit=/init quiet initcall_blacklist=xen_setup_shutdown_event stillpoint.modules=xen-blkfront,xen-netfront"\nmemory = 128\ntsc_mode = "native"\n${more}`;
    const parts = { kernel: guests.vmlinux, ramdisk: ramdiskWithPrograms(guests.initramfs) };
    files['disk.img'] = Buffer.alloc(DISK_BYTES);
    files['more.img'] = Buffer.alloc(1 << 20, 'more');
    await add(
      DEBIAN,
      linux(`disk = ["/s/disk.img,raw,xvda,w"]\nvif = ["mac=${MAC},bridge=xenbr0"]\n`),
      parts,
    );
    await add(TWO, linux('vcpus = 2\non_reboot = "restart"\non_crash = "destroy"\n'), parts);
  }
  return { files, memoryMib };
}

class Chronicle {
  readonly rows: SoakRow[] = [];
  readonly moves: Life['moves'] = [];
  readonly saves: Moved[] = [];
  readonly restores: number[] = [];
  private readonly began = performance.now();

  constructor(private readonly about: string) {}

  say(text: string): void {
    console.log(
      `${((performance.now() - this.began) / 1000).toFixed(1).padStart(7)} s  ${this.about}: ${text}`,
    );
  }
  noted(property: string, holds: boolean): void {
    if (!holds) this.say(`NOT ${property}`);
    this.rows.push({ property: `${this.about} ${property}`, cases: 1, failures: holds ? 0 : 1 });
  }
  seconds(): number {
    return (performance.now() - this.began) / 1000;
  }
  life(firstS: number, memoryMib: number): Life {
    const { rows, moves, saves, restores } = this;
    return { rows, moves, saves, restores, firstS, memoryMib };
  }
}

/** One migration by stock xl, until the helper has noticed it. */
async function migrate(guest: XlGuest, told: Chronicle): Promise<void> {
  const { outageNs: before } = await guest.settled();
  const moved = await guest.migrate();
  const { domid, outageNs } = await guest.settled();
  const outageS = (outageNs - before) / 1e9;
  told.moves.push({ ...moved, outageS });
  told.say(
    `xl migrate: ${moved.seconds.toFixed(1)} s, ${(moved.bytes / MIB).toFixed(0)} MiB, domain ${domid} now, the guest stood still for ${outageS.toFixed(1)} s`,
  );
}

async function saveAndRestore(guest: XlGuest, told: Chronicle): Promise<void> {
  const saved = await guest.save();
  told.saves.push(saved);
  const back = await guest.restore();
  told.restores.push(back);
  const { domid } = await guest.settled();
  told.say(
    `xl save: ${saved.seconds.toFixed(1)} s, ${(saved.bytes / MIB).toFixed(0)} MiB; xl restore: ${back.toFixed(1)} s, domain ${domid} now`,
  );
}

export interface Observed extends Verdict {
  /** How far the guest's wall clock is from dom0's, ns: 0 if it lies between when it was asked and when it had said it. */
  readonly wallClockNs: number;
}

const nowOf = async (bed: XenBed): Promise<number> =>
  1000 * Number((await bed.must('echo $EPOCHREALTIME', 30)).replace('.', ''));

/**
 * What the observer in the guest says of its whole life. A guest with a shell, whose observer may take seconds for one
 * sample in the emulator, is asked for the time by its shell, after the observer.
 */
export async function observed(guest: XlGuest, seconds: number, shell = false): Promise<Observed> {
  const before = await guest.count(VERDICT);
  let asked = await nowOf(guest.bed);
  await guest.type('v\n');
  const found = verdictIn(await guest.until(VERDICT, seconds, before));
  let told = await nowOf(guest.bed);
  let [from, to] = [found.realNs, found.realNs];
  if (shell) {
    await guest.type('q\n');
    asked = await nowOf(guest.bed);
    from = Number(await guest.shell('date +%s', seconds)) * 1e9;
    to = from + 1e9;
    told = await nowOf(guest.bed);
  }
  return { ...found, wallClockNs: Math.max(0, asked - to, from - told) };
}

async function verdict(guest: XlGuest, told: Chronicle, shell = false): Promise<void> {
  const { samples, differences, backwards, right, gapNs, wallClockNs } = await observed(guest, SAY_S, shell);
  told.say(
    `observer: ${samples} samples, ${differences} differences, ${backwards} clocks backwards, longest gap ${(gapNs / 1e9).toFixed(1)} s, wall clock ${(wallClockNs / 1e9).toFixed(2)} s from dom0's`,
  );
  for (const line of (await guest.console()).match(/^OBS DIFF.*$/gm) ?? []) told.say(line.slice(0, 300));
  told.noted('sees no difference', differences === 0);
  told.noted('has no clock that goes backwards', backwards === 0);
  told.noted('computes what is right', right);
  told.noted("has dom0's wall clock within 1 s", wallClockNs < WALL_CLOCK_NS);
}

/** The history in the ledger: as many places as the domain ids that it had, each point with one inner value. */
async function history(guest: XlGuest, told: Chronicle, places: number): Promise<void> {
  const points = await guest.points();
  const domids = points.find(({ name }) => /domain id|domid/i.test(name));
  told.say(`ledger: ${JSON.stringify(domids)}`);
  told.noted(
    `has ${places} places in its ledger, with the domain ids that Xen gave`,
    domids !== undefined && domids.outer.length === places && new Set(domids.outer).size === places,
  );
}

/** Our small kernel: created, saved, restored, migrated three times, ended. */
export async function smallLife(bed: XenBed, memoryMib: number): Promise<Life> {
  const told = new Chronicle('the small kernel in a helper');
  const guest = new XlGuest(bed, SMALL);
  await guest.create();
  await guest.until(/OBS n=50 /, BOOT_S);
  const firstS = told.seconds();
  told.say('created, and observing');
  await guest.settled();
  await saveAndRestore(guest, told);
  for (let i = 0; i < 3; i++) await migrate(guest, told);
  await verdict(guest, told);
  await history(guest, told, 5);
  await guest.type('q\n');
  told.noted('ends its domain when it powers off', await gone(guest));
  return told.life(firstS, memoryMib);
}

async function gone(guest: XlGuest): Promise<boolean> {
  const { status } = await guest.bed.run(
    `while xl domid ${guest.name} >/dev/null 2>&1; do sleep 0.3; done`,
    90,
  );
  return status === 0;
}

/** Debian's Linux, made wild, with a disk that is written and checked and a download from dom0, through seven moves. */
export async function debianLife(bed: XenBed, memoryMib: number): Promise<Life> {
  const told = new Chronicle('wild Debian in a helper');
  const guest = new XlGuest(bed, DEBIAN);
  await guest.create();
  await guest.until(SHELL, BOOT_S);
  const firstS = told.seconds();
  told.say('at its shell');
  await guest.type(`diskwriter /dev/xvda ${DISK_BYTES / 4096} 1000 &\n`);
  // The server sends as slowly as the moves last, and what it has sent is kept.
  await bed.must(
    `rm -f /s/over; setsid bash -c '{ printf "HTTP/1.0 200 OK\\r\\n\\r\\n"; while [ ! -e /s/over ]; do head -c 1024 /dev/urandom; sleep 0.5; done | tee /s/sent; } | nc -l -p ${PORT}' >/dev/null 2>&1 &`,
    30,
  );
  await guest.shell(`ifconfig eth0 ${GUEST} netmask 255.255.255.0 up`, SAY_S);
  await guest.type(`(S=$(wget -q -O - http://${DOM0}:${PORT}/ | sha256sum); echo "S""UM $S") &\n`);
  await guest.type('observer 500 0\n');
  await guest.until(/OBS START/, BOOT_S);
  await guest.until(DISK_WROTE, SAY_S);
  told.say('observing, writing and downloading');
  for (let i = 0; i < 7; i++) await (i === 2 || i === 5 ? saveAndRestore : migrate)(guest, told);
  await bed.must(`xl pause ${DEBIAN}; sleep ${PAUSE_S}; xl unpause ${DEBIAN}`, PAUSE_S + 60);
  told.say(`xl pause for ${PAUSE_S} s`);
  await guest.until(DISK_WROTE, SAY_S, await guest.count(DISK_WROTE));
  await guest.bed.must('touch /s/over', 30);
  const [, sum] = await guest.until(/SUM ([0-9a-f]{64})/, SAY_S);
  const sent = await guest.bed.must('stat -c %s /s/sent; sha256sum /s/sent', 60);
  told.say(`download: ${(Number(sent.split('\n')[0]) / 1024).toFixed(0)} KiB on one connection`);
  told.noted(
    'goes on with its download on one connection, every byte right',
    sum !== undefined && sent.includes(sum),
  );
  await verdict(guest, told, true);
  await history(guest, told, 8);
  const text = await guest.console();
  const disk = [...text.matchAll(new RegExp(DISK_WROTE, 'g'))];
  told.say(`disk: ${disk.at(-1)?.[1]} rounds`);
  told.noted('reads back all that it has written', disk.length > 0 && disk.every(([, , bad]) => bad === '0'));
  // In an emulator even its boot may be too slow for its watchdogs.
  const since = text.slice(text.search(SHELL));
  told.noted(
    'says no word of a stall or of an I/O error',
    !/lockup|rcu.*stall|I\/O error|unstable|lagged/i.test(since),
  );
  await guest.destroy();
  return told.life(firstS, memoryMib);
}

/** Debian's Linux with two vCPUs: devices that come and go, a reboot, a crash. */
export async function twoLife(bed: XenBed, memoryMib: number): Promise<Life> {
  const told = new Chronicle('wild Debian with two vCPUs in a helper');
  const guest = new XlGuest(bed, TWO);
  await guest.create();
  await guest.until(SHELL, BOOT_S);
  const firstS = told.seconds();
  const processors = async (): Promise<number> =>
    Number(await guest.shell('grep -c ^processor /proc/cpuinfo', SAY_S));
  const memoryKib = async (): Promise<number> =>
    Number((await guest.shell('grep MemTotal /proc/meminfo', SAY_S)).replace(/\D/g, ''));
  told.noted('has two processors', (await processors()) === 2);
  await migrate(guest, told);
  await bed.must(`xl block-attach ${TWO} /s/more.img,raw,xvdb,r`, 60);
  const seen = await guest.shell(
    'for i in $(seq 100); do [ -b /dev/xvdb ] && break; sleep 0.2; done; head -c 8 /dev/xvdb',
    SAY_S,
  );
  told.noted('reads a disk that xl block-attach has given', seen.includes('moremore'));
  await migrate(guest, told);
  told.noted(
    'has it after a migration',
    (await guest.shell('dd if=/dev/xvdb bs=512 skip=100 count=1 2>/dev/null | head -c 8', SAY_S)).includes(
      'moremore',
    ),
  );
  await bed.must(`xl block-detach ${TWO} xvdb`, 90);
  const left = await guest.shell(
    'for i in $(seq 100); do [ -b /dev/xvdb ] || break; sleep 0.2; done; [ -b /dev/xvdb ] || echo "NOT"" THERE"',
    SAY_S,
  );
  told.noted('loses it by xl block-detach', left.includes('NOT THERE'));
  await bed.must(`xl network-attach ${TWO} mac=${MAC} bridge=xenbr0`, 60);
  const addresses = await guest.shell(
    `for i in $(seq 100); do grep -q ${MAC} /sys/class/net/*/address && break; sleep 0.2; done; cat /sys/class/net/*/address`,
    SAY_S,
  );
  told.noted('has the network that xl network-attach has given', addresses.includes(MAC));
  await guest.shell(`ifconfig eth0 ${GUEST} netmask 255.255.255.0 up; ping -c 1 -w 60 ${DOM0}`, SAY_S);
  await migrate(guest, told);
  const answered = await guest.shell(`ping -c 1 -w 60 ${DOM0}`, SAY_S);
  told.noted('reaches dom0 on it after a migration', / 0% packet loss/.test(answered));
  await bed.must(`xl network-detach ${TWO} 0`, 90);
  const networks = await guest.shell(
    'for i in $(seq 100); do [ -e /sys/class/net/eth0 ] || break; sleep 0.2; done; ls /sys/class/net',
    SAY_S,
  );
  told.noted('loses it by xl network-detach', !networks.includes('eth0'));
  const until = (test: string): Promise<string> =>
    guest.shell(`for i in $(seq 150); do ${test} && break; sleep 0.2; done`, SAY_S);
  await bed.must(`xl vcpu-set ${TWO} 1`, 60);
  await until('[ "$(grep -c ^processor /proc/cpuinfo)" = 1 ]');
  told.noted('has one processor after xl vcpu-set', (await processors()) === 1);
  await bed.must(`xl vcpu-set ${TWO} 2`, 60);
  await until('[ "$(grep -c ^processor /proc/cpuinfo)" = 2 ]');
  told.noted('has both again', (await processors()) === 2);
  const kib = await memoryKib();
  await bed.must(`xl mem-set ${TWO} ${memoryMib - LESS_MIB}m`, 60);
  await until(`[ $(grep MemTotal /proc/meminfo | tr -dc 0-9) -lt ${kib - (LESS_MIB - 1) * 1024} ]`);
  told.noted(
    `gives ${LESS_MIB} MiB back to its host by xl mem-set`,
    Math.abs(kib - LESS_MIB * 1024 - (await memoryKib())) < 1024,
  );
  const helps = await guest.count(/sysrq: HELP/);
  await bed.must(`xenstore-write /local/domain/$(xl domid ${TWO})/data/stillpoint/sysrq h && sleep 10`, 60);
  await guest.type('dmesg | grep HELP\n');
  await guest.until(/sysrq: HELP/, SAY_S, helps);
  told.noted('gets the key of dom0', true);
  const shells = await guest.count(SHELL);
  const domid = await guest.domid();
  await guest.type('reboot -f\n');
  await bed.must(
    `until [ "$(xl domid ${TWO} 2>/dev/null || echo ${domid})" != ${domid} ]; do sleep 0.5; done`,
    SAY_S,
  );
  await guest.until(SHELL, BOOT_S, shells);
  told.noted('is started again by on_reboot when it reboots', (await guest.domid()) !== domid);
  await guest.type('echo c >/proc/sysrq-trigger\n');
  told.noted('is destroyed by on_crash when it crashes', await gone(guest));
  const log = await bed.must(`grep -h "reason code" /var/log/xen/xl-${TWO}*.log`, 30);
  told.noted('gives its own reasons to xl', /reason code 1\b/.test(log) && /reason code 3\b/.test(log));
  return told.life(firstS, memoryMib);
}

export interface NamedLife {
  readonly name: string;
  readonly about: string;
  readonly guestMib: number;
  readonly live: (bed: XenBed, memoryMib: number) => Promise<Life>;
}
export const SHORT_LIFE: NamedLife = {
  name: SMALL,
  about: 'our small kernel in a helper',
  guestMib: 16,
  live: smallLife,
};
export const WILD_DEBIAN: NamedLife = {
  name: DEBIAN,
  about: 'wild Debian in a helper',
  guestMib: 128,
  live: debianLife,
};
export const LIVES: readonly NamedLife[] = [
  SHORT_LIFE,
  WILD_DEBIAN,
  { name: TWO, about: 'the same with two vCPUs', guestMib: 128, live: twoLife },
];
