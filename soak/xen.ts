// npm run soak -- xen: a real Xen (soak/lib/xen-bed) is asked what it does with PV guests when their host changes. Debian's
// Linux is created as a plain PV domain, once friendly and once wild (its suspend handler is not registered), and stock
// `xl` saves, restores and migrates it. Before that, the appliance is proved by itself (lib/xen-bed/appliance-proof.ts).
import { ensureAppliance } from '../scripts/lib/appliance.js';
import { ensureGuests } from '../scripts/lib/guests.js';
import { type SoakRow, soaked } from './lib/soaked.js';
import { proofFiles, proveAppliance } from './lib/xen-bed/appliance-proof.js';
import { XenBed } from './lib/xen-bed/xen-bed.js';

const MEMORY_MIB = 128;
/** How long a guest may take in the emulator until its shell answers, s. */
const BOOT_S = 180;
/** xl waits 60 s for a guest to acknowledge that it suspends. */
const MOVE_S = 180;

const config = (name: string, extra: string): string =>
  [
    `name = "${name}"`,
    'kernel = "/s/vmlinux"',
    'ramdisk = "/s/initramfs"',
    `extra = "console=hvc0 rdinit=/init ${extra}"`,
    `memory = ${MEMORY_MIB}`,
    'vcpus = 1',
    '',
  ].join('\n');

interface Peer {
  readonly name: string;
  readonly about: string;
  readonly extra: string;
  readonly friendly: boolean;
}
const PEERS: readonly Peer[] = [
  {
    name: 'wild',
    about: 'a PV domain that ignores the request to suspend',
    extra: 'initcall_blacklist=xen_setup_shutdown_event',
    friendly: false,
  },
  { name: 'friendly', about: 'a PV domain that suspends when asked', extra: '', friendly: true },
];

interface Answer {
  readonly status: number;
  readonly seconds: number;
  /** The last line that says why. */
  readonly words: string;
}

const rows: SoakRow[] = [];
const table: string[][] = [];

async function timed(bed: XenBed, command: string, limit: number): Promise<Answer> {
  const began = performance.now();
  const { status, text } = await bed.run(`${command} 2>&1`, limit);
  const said = text.split('\n').filter((line) => /error|fail|acknowledge|cancel/i.test(line));
  return { status, seconds: (performance.now() - began) / 1000, words: (said[0] ?? '').trim() };
}

const lives = async (bed: XenBed, name: string): Promise<boolean> =>
  (await bed.run(`xl domid ${name}`, 30)).status === 0;

/** Until the guest's shell has printed its prompt on the console that xenconsoled logs. */
async function shell(bed: XenBed, name: string): Promise<number> {
  const began = performance.now();
  const log = `/var/log/xen/console/guest-${name}.log`;
  await bed.must(`until grep -q '# ' ${log} 2>/dev/null; do sleep 0.1; done`, BOOT_S);
  return (performance.now() - began) / 1000;
}

function noted(property: string, holds: boolean): void {
  rows.push({ property, cases: 1, failures: holds ? 0 : 1 });
}
const told = ({ status, seconds, words }: Answer): string =>
  `${status === 0 ? 'works' : 'fails'} after ${seconds.toFixed(1)} s${status === 0 || words === '' ? '' : `: ${words}`}`;

async function ask(bed: XenBed, { name, about, extra, friendly }: Peer): Promise<void> {
  await bed.put(Buffer.from(config(name, extra)), `/s/${name}.cfg`);
  await bed.must(`xl create /s/${name}.cfg`, 120);
  const booted = await shell(bed, name);
  const migrate = await timed(bed, `xl migrate -s /sbin/counting-ssh ${name} localhost`, MOVE_S);
  noted(`${about}: xl migrate fails, and it lives on`, migrate.status !== 0 && (await lives(bed, name)));
  const save = await timed(bed, `xl save ${name} /s/${name}.save`, MOVE_S);
  let restore: Answer | undefined;
  if (friendly) {
    restore = await timed(bed, `xl restore /s/${name}.save`, MOVE_S);
    noted(`${about}: xl save and xl restore work`, save.status === 0 && restore.status === 0);
  } else noted(`${about}: xl save fails, and it lives on`, save.status !== 0 && (await lives(bed, name)));
  await bed.run(`xl destroy ${name}; rm -f /s/${name}.save`, 60);
  table.push([
    about,
    `${booted.toFixed(1)} s`,
    told(migrate),
    told(save),
    restore === undefined ? '' : told(restore),
  ]);
}

/** One run of all; true if it came to its end. */
async function run(): Promise<boolean> {
  const guests = await ensureGuests();
  const appliance = await ensureAppliance();
  const began = performance.now();
  const bed = await XenBed.up({
    files: { vmlinux: guests.vmlinux, initramfs: guests.initramfs, ...(await proofFiles(appliance)) },
  });
  try {
    console.log(`a real Xen answers after ${((performance.now() - began) / 1000).toFixed(1)} s`);
    console.log((await bed.must('xl info | grep -E "^(xen_version|virt_caps|free_memory)"', 30)).trim());
    rows.push(...(await proveAppliance(bed, appliance)));
    for (const peer of PEERS) await ask(bed, peer);
    return true;
  } catch (error) {
    const failures = bed.emulatorFailures();
    if (failures === 0) throw error;
    console.log(`the emulator failed ${failures} times (a triple fault in Xen's own code): once more`);
    return false;
  } finally {
    await bed.down();
  }
}

if (!(await run())) {
  rows.length = 0;
  table.length = 0;
  if (!(await run())) noted('the emulator runs Xen at the second attempt', false);
}
console.log(
  ['| peer | to its shell | xl migrate | xl save | xl restore |', '|---|---|---|---|---|']
    .concat(table.map((cells) => `| ${cells.join(' | ')} |`))
    .join('\n'),
);
soaked(rows);
