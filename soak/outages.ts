// npm run soak -- outages [RUNS [SEED [SUITE...]]]: row T5 RUNS times (30) for each kernel, clock source and number of
// vCPUs. A busy Linux that is stopped at any moment for between 3 s and a virtual day must print nothing and go on,
// although one in fifty readings of its clock is delayed by 1 to 41 us, as by interrupts of a busy host; with 2 vCPUs
// it is first stopped asleep, for a year. Without suites it is the kernel of the tests; "bullseye", "trixie", "sid" and
// so on select that suite's linux-image-amd64. Time counts instructions, so a seed always gives the same run.
import { readFileSync } from 'node:fs';
import { messageOf } from '../scripts/lib/errors.js';
import { ensureGuests } from '../scripts/lib/guests.js';
import { ensureKernel } from '../scripts/lib/kernels.js';
import { wasmEngine } from '../src/engine/engines.js';
import { Guest } from '../src/helper/guest.js';
import { openSingleHost } from '../src/host/standalone/single-host.js';
import type { Nanoseconds } from '../src/xen/types.js';
import { type SoakCount, soaked } from './lib/soaked.js';

const runs = Number(process.argv[2] ?? 30);
const seed = Number(process.argv[3] ?? Date.now() % 1e9);
const suites = process.argv.slice(4);
const NS_PER_INSTRUCTION = 10;
const OUTAGES_S = [3, 25, 100, 3600, 10_000, 86_400];
const MS = 1e6;
const DELAYED = 1 / 50;
/** How long it is watched at the end while it catches up. */
const CATCHING_UP_MS = 2000;
/** While it sleeps it is stopped for a year: such a stop passes without any work in between. */
const YEAR_S = 365 * 86_400;
const delay = (): number => 1000 + Math.floor(delays() * 40_000);
const LOAD =
  'while :; do :; done & while :; do /bin/true; done & while :; do sleep 0.01; done & ' +
  'while :; do cat /proc/*/stat >/dev/null 2>&1; done & ' +
  'while :; do dd if=/dev/zero of=/tmp/x bs=64k count=16 2>/dev/null; done &\n';
/** What it prints by itself, whatever happens to it. */
const HARMLESS = /random: crng init done/;

/** What Linux has printed, and the host's time. */
interface World {
  text: string;
  uptime: number;
}

/** Paths of the files. */
interface Files {
  readonly kernel: string;
  readonly ramdisk: string;
}

class Linux {
  private commands = 0;
  private running = false;
  private constructor(
    readonly guest: Guest,
    private readonly world: World,
  ) {}
  get text(): string {
    return this.world.text;
  }
  static async boot(files: Files, vcpus: number): Promise<Linux> {
    const world: World = { text: '', uptime: 1e12 };
    const clock = {
      tscKhz: 2_000_000,
      uptime: () => world.uptime as Nanoseconds,
      wallClock: () => (1.767e18 + world.uptime) as Nanoseconds,
    };
    const guest = await Guest.powerOn(
      {
        name: 'outages',
        uuid: new Uint8Array(16).fill(5),
        memoryMib: 160,
        vcpus,
        image: {
          kernel: readFileSync(files.kernel),
          ramdisk: readFileSync(files.ramdisk),
          cmdline: 'console=hvc0 quiet rdinit=/init initcall_blacklist=xen_setup_shutdown_event',
        },
        kernelName: 'kernel',
        ramdiskName: 'ramdisk',
        nsPerInstruction: NS_PER_INSTRUCTION,
      },
      { ...openSingleHost('outages'), clock },
      {
        engine: wasmEngine(),
        console: (bytes) => {
          world.text += Buffer.from(bytes).toString('latin1').replaceAll('\r', '');
          return true;
        },
        log: () => {},
        wake() {},
      },
    );
    const linux = new Linux(guest, world);
    linux.delayLooks();
    await guest.attach();
    guest.start();
    return linux;
  }
  /** Some readings of the clock are delayed while it runs. */
  private delayLooks(): void {
    const { clock } = this.guest.domain;
    const now = clock.now.bind(clock);
    clock.now = () => {
      if (this.running && delays() < DELAYED) {
        this.running = false;
        clock.advanceTo(now() + delay());
        this.running = true;
      }
      return now();
    };
  }
  /** Runs it for so long, and lets this process's other work continue. */
  async run(ns: number): Promise<void> {
    const { clock } = this.guest.domain;
    const end = clock.now() + ns;
    for (let now = clock.now(), breath = performance.now(); now < end; now = clock.now()) {
      this.running = true;
      const result = this.guest.run(Math.min(end - now, 5 * MS));
      this.running = false;
      if (result.state === 'shutdown') throw new Error(`the guest ended: ${result.reason}`);
      if (result.state === 'idle' && result.wakeAt === undefined) break;
      if (performance.now() - breath < 20) continue;
      await new Promise((done) => setImmediate(done));
      breath = performance.now();
    }
    this.world.uptime += ns;
  }
  async until(pattern: RegExp, from = 0): Promise<RegExpExecArray> {
    for (let waited = 0; waited < 3600e9; waited += 20 * MS) {
      const found = pattern.exec(this.text.slice(from));
      if (found) return found;
      await this.run(20 * MS);
    }
    throw new Error(`${pattern} did not come:\n${this.text.slice(-1000)}`);
  }
  /** Runs it until no vCPU computes. */
  async asleep(): Promise<void> {
    while (this.guest.domain.state.vcpus.some((v) => !v.blocked && !v.down)) await this.run(0.1 * MS);
  }
  /** Time passes that the guest does not see. */
  outage(ns: number): void {
    this.world.uptime += ns;
  }
  async command(command: string): Promise<string> {
    const from = this.text.length;
    const n = ++this.commands;
    this.guest.console.type(Buffer.from(`${command}; echo "do""ne ${n}"\n`));
    return (await this.until(new RegExp(`([\\s\\S]*)done ${n}\n`), from))[1];
  }
}

/** Numbers from 0 to 1 from a seed (mulberry32). */
function numbers(from: number): () => number {
  let state = from | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const delays = numbers(seed);

async function outages(name: string, files: Files, vcpus: number, source: string): Promise<SoakCount> {
  const random = numbers(seed + vcpus + source.length);
  const row = { property: `${name}, ${vcpus} vCPUs, ${source}: no word of an outage`, cases: 0, failures: 0 };
  try {
    const linux = await Linux.boot(files, vcpus);
    await linux.until(/guest# /);
    const current = '/sys/devices/system/clocksource/clocksource0/current_clocksource';
    await linux.command(`stty -echo; echo 8 >/proc/sys/kernel/printk; echo ${source} >${current}`);
    // What was typed before is echoed, and in the middle of it the kernel may print that its clock source has changed.
    const answer = await linux.command(`cat ${current}`);
    if (!new RegExp(`(^|# )${source}$`, 'm').test(answer))
      throw new Error(`no clock source ${source}: ${answer}`);
    let checked = linux.text.length;
    /** What the kernel has printed since the last call. */
    const silent = async (when: string): Promise<void> => {
      const lines = linux.text
        .slice(checked)
        .split('\n')
        .filter((line) => /^\[ *\d+\.\d+\]/.test(line) && !HARMLESS.test(line));
      if (lines.length > 0) {
        row.failures++;
        console.log(`${row.property}: ${when}, run ${row.cases}:\n${lines.slice(0, 5).join('\n')}`);
        await linux.run(300 * MS);
      }
      checked = linux.text.length;
    };
    const { clock } = linux.guest.domain;
    const stop = async (seconds: number): Promise<void> => {
      await linux.guest.pause();
      const over = clock.now() + seconds * 1e9;
      linux.outage(seconds * 1e9);
      linux.guest.start();
      row.cases++;
      await linux.run(30 * MS);
      // Of a stop of more than an hour, the rest passes in parts while the guest runs.
      while (clock.now() < over) await linux.run(30 * MS);
      if (row.cases % 10 === 0) await linux.command('true');
      await silent(`after ${seconds} s`);
    };
    if (vcpus === 2) {
      await linux.asleep();
      await stop(YEAR_S);
    }
    linux.guest.console.type(Buffer.from(LOAD));
    await linux.run(300 * MS);
    while (row.cases < runs) {
      await linux.run(Math.floor(2 * MS + random() * 40 * MS));
      const seconds = OUTAGES_S[Math.floor(random() * OUTAGES_S.length)];
      await stop(seconds);
    }
    await linux.run(CATCHING_UP_MS * MS);
    await silent('catching up');
  } catch (error) {
    row.cases++;
    row.failures++;
    console.log(`${row.property}: ${messageOf(error)}`);
  }
  return row;
}

console.log(`seed ${seed}`);
const kernels: [name: string, files: Files][] = [];
if (suites.length === 0) {
  const { vmlinux, initramfs } = await ensureGuests();
  kernels.push(['Linux of the tests', { kernel: vmlinux, ramdisk: initramfs }]);
}
for (const suite of suites) {
  const { release, vmlinuz, initramfs } = await ensureKernel({ suite, package: 'linux-image-amd64' });
  kernels.push([release, { kernel: vmlinuz, ramdisk: initramfs }]);
}
const rows: SoakCount[] = [];
for (const [name, files] of kernels)
  for (const vcpus of [1, 2, 4])
    for (const source of ['xen', 'tsc']) rows.push(await outages(name, files, vcpus, source));
soaked(rows);
