/** `xl top`: xentop's table, again and again; -b as text for scripts. */
import type { Client, DomainRow } from '../client/index.js';
import { printable } from '../protocol/printable.js';
import { right } from './format.js';
import { DOM0_NAME, type Machine } from './machine.js';
import type { XlCall } from './verb.js';

/** A line of xentop. Counters of disks and networks are undefined where nobody counts. */
export interface TopRow {
  readonly name: string;
  readonly state: string;
  readonly cpuS: number;
  readonly cpuPercent: number;
  readonly memoryKib: number;
  readonly memoryPercent: number;
  readonly maxKib: number;
  readonly maxPercent: number;
  readonly vcpus: number;
  readonly networks: number;
  readonly disks: number;
}

const HEAD =
  '      NAME  STATE   CPU(sec) CPU(%)     MEM(k) MEM(%)  MAXMEM(k) MAXMEM(%) VCPUS NETS NETTX(k) NETRX(k) VBDS   VBD_OO   VBD_RD   VBD_WR  VBD_RSECT  VBD_WSECT SSID';

export function topHead(nameWidth: number): string {
  return HEAD.slice(6).padStart(HEAD.length - 10 + nameWidth);
}

/** xentop has other letters than xl list: dying, shut down, blocked, crashed, paused, running. */
export const topState = (state: string): string => {
  const has = (letter: string): string => (state.includes(letter) ? letter : '-');
  return ['d', 's', 'b', 'c', 'p', 'r'].map(has).join('');
};

export function topLine(row: TopRow, nameWidth: number, full: boolean): string {
  const name = printable(row.name);
  return [
    full ? right(name, nameWidth) : right(name.slice(0, nameWidth), nameWidth),
    row.state,
    right(Math.floor(row.cpuS), 10),
    right(row.cpuPercent.toFixed(1), 6),
    right(row.memoryKib, 10),
    right(row.memoryPercent.toFixed(1), 6),
    right(row.maxKib, 10),
    right(row.maxPercent.toFixed(1), 9),
    right(row.vcpus, 5),
    right(row.networks, 4),
    ...[8, 8].map((width) => right(0, width)),
    right(row.disks, 4),
    ...[8, 8, 8, 10, 10, 4].map((width) => right(0, width)),
  ].join(' ');
}

const NAME_WIDTH = 10;
/** What libxl lets a guest have beyond its memory: LIBXL_MAXMEM_CONSTANT. */
const SLACK_KIB = 1024;
const MAX_S = 2_147_483;

interface Look {
  readonly atMs: number;
  readonly cpuS: ReadonlyMap<string, number>;
}

/** As xentop, whose first column is the name. */
const byName = (a: TopRow, b: TopRow): number => {
  const [one, other] = [a.name.toLowerCase(), b.name.toLowerCase()];
  return one < other ? -1 : Number(one > other);
};

async function rowsOf(
  client: Client,
  guests: readonly DomainRow[],
  machine: Machine,
  before: Look | undefined,
): Promise<{ rows: TopRow[]; look: Look }> {
  const atMs = performance.now();
  const totalKib = machine.totalBytes / 1024;
  const percentOf = (uuid: string, cpuS: number): number => {
    const earlier = before?.cpuS.get(uuid);
    if (before === undefined || earlier === undefined) return 0;
    return Math.max(0, ((cpuS - earlier) / Math.max(atMs - before.atMs, 1)) * 100_000);
  };
  const busy = machine.busyS.reduce((a, b) => a + b, 0);
  const cpuS = new Map([['', busy], ...guests.map((row): [string, number] => [row.uuid, row.seconds])]);
  const dom0: TopRow = {
    name: DOM0_NAME,
    state: topState('r-----'),
    cpuS: busy,
    cpuPercent: percentOf('', busy),
    memoryKib: Math.floor(totalKib),
    memoryPercent: 100,
    maxKib: Math.floor(totalKib),
    maxPercent: 100,
    vcpus: machine.cpus,
    networks: 0,
    disks: 0,
  };
  const rows = await Promise.all(
    guests.map(async ({ name, uuid, state, seconds, memoryMib, vcpus }): Promise<TopRow> => {
      const config = await client.request('config', { guest: name, uuid }).catch(() => null);
      const maxKib = (config?.maxMemoryKib ?? memoryMib * 1024) + SLACK_KIB;
      const count = (kind: string): number =>
        (config?.devices ?? []).filter((device) => device.kind === kind).length;
      return {
        name,
        state: topState(state),
        cpuS: seconds,
        cpuPercent: percentOf(uuid, seconds),
        memoryKib: memoryMib * 1024,
        memoryPercent: ((memoryMib * 1024) / totalKib) * 100,
        maxKib,
        maxPercent: (maxKib / totalKib) * 100,
        vcpus: config?.vcpus ?? vcpus,
        networks: count('vif'),
        disks: count('vbd'),
      };
    }),
  );
  return { rows: [dom0, ...rows].toSorted(byName), look: { atMs, cpuS } };
}

export async function top({ session, value, has }: XlCall): Promise<number> {
  const { around } = session;
  const client = await session.client();
  const { xen_version: version, tsc_khz: khz } = await client.info();
  const delayS = Math.min(Math.max(Number.parseInt(value('d') ?? '3', 10) || 0, 0), MAX_S);
  const looks = Number.parseInt(value('i') ?? '0', 10);
  const full = has('f');
  let before: Look | undefined;
  for (let look = 1; ; look++) {
    const { machine } = around;
    const { rows, look: now } = await rowsOf(client, await session.guests(), machine, before);
    before = now;
    const width = full ? Math.max(NAME_WIDTH, ...rows.map(({ name }) => printable(name).length)) : NAME_WIDTH;
    if (!has('b')) around.out(`\x1b[H\x1b[J${summary(rows, machine, version, khz)}`);
    rows.forEach((row, i) => {
      if (i === 0 || has('r')) around.out(`${topHead(width)}\n`);
      around.out(`${topLine(row, width, full)}\n`);
    });
    if (look === looks) return 0;
    await new Promise((done) => setTimeout(done, delayS * 1000));
  }
}

function summary(rows: readonly TopRow[], machine: Machine, version: string, khz: number): string {
  const { now, totalBytes, freeBytes, cpus } = machine;
  const count = (letter: string): number => rows.filter(({ state }) => state.includes(letter)).length;
  const kib = (bytes: number): string => `${Math.floor(bytes / 1024)}k`;
  return [
    `xentop - ${now.toTimeString().slice(0, 8)}   Xen ${version}`,
    `${rows.length} domains: ${count('r')} running, ${count('b')} blocked, ${count('p')} paused, ${count('c')} crashed, ${count('d')} dying, ${count('s')} shutdown `,
    `Mem: ${kib(totalBytes)} total, ${kib(totalBytes - freeBytes)} used, ${kib(freeBytes)} free    CPUs: ${cpus} @ ${Math.floor(khz / 1000)}MHz`,
    '',
  ].join('\n');
}
