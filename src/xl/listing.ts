/** `xl list`, `vm-list`, `vcpu-list`, `uptime`, `domid`, `domname`. */
import type { DomainRow } from '../client/index.js';
import { printable } from '../protocol/printable.js';
import { left, right, seconds, uptimeText, yajl } from './format.js';
import { configJson, dom0Json } from './long.js';
import { DOM0_NAME, DOM0_UUID, type Machine } from './machine.js';
import { DOM0, FAILED, type Session, type Target, XlEnd } from './session.js';
import type { XlCall } from './verb.js';

const MIB = 2 ** 20;

/** A line of `xl list`. */
export interface ListRow {
  readonly domid: number;
  readonly name: string;
  readonly uuid: string;
  readonly memoryMib: number;
  readonly vcpus: number;
  /** As DomainRow has it. */
  readonly state: string;
  readonly seconds: number;
}
export interface ListColumns {
  readonly verbose?: boolean;
  readonly context?: boolean;
  readonly cpupool?: boolean;
  readonly numa?: boolean;
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

const dom0Row = ({ totalBytes, cpus, busyS }: Machine): ListRow => ({
  domid: 0,
  name: DOM0_NAME,
  uuid: DOM0_UUID,
  memoryMib: Math.floor(totalBytes / MIB),
  vcpus: cpus,
  state: 'r-----',
  seconds: sum(busyS),
});

/** Xen calls a domain that has crashed shut down, with the reason 3. */
const crashed = (state: string): boolean => state[4] === 'c';
const xenState = (state: string): string => (crashed(state) ? `---sc${state[5]}` : state);

export function listText(rows: readonly ListRow[], columns: ListColumns): string {
  const { verbose, context, cpupool, numa } = columns;
  const head = [
    'Name                                        ID   Mem VCPUs\tState\tTime(s)',
    verbose ? '   UUID                            Reason-Code\tSecurity Label' : '',
    context && !verbose ? '   Security Label' : '',
    cpupool ? '         Cpupool' : '',
    numa ? ' NODE Affinity' : '',
  ];
  const lines = rows.map((row) => {
    const state = xenState(row.state);
    const reason = state[3] === 's' ? (crashed(row.state) ? '3' : '0') : '-';
    return [
      `${left(printable(row.name), 40)} ${right(row.domid, 5)} ${right(row.memoryMib, 5)} ${right(row.vcpus, 5)}     ${state}  ${seconds(row.seconds, 8)}`,
      verbose ? ` ${row.uuid} ${right(reason, 8)}` : '',
      verbose || context ? ` ${right('-', 16)}` : '',
      cpupool ? right('Pool-0', 16) : '',
      numa ? ' all' : '',
    ].join('');
  });
  return `${[head.join(''), ...lines].join('\n')}\n`;
}

export async function list({ session, rest, has, help }: XlCall): Promise<number> {
  if (rest.length > 1) {
    help('list');
    return FAILED;
  }
  const wanted = rest[0] === undefined ? undefined : await session.find(rest[0]);
  if (wanted !== undefined && wanted.domid !== 0 && wanted.row === undefined)
    throw new XlEnd(FAILED, `Error: Domain '${rest[0]}' does not exist.`);
  if (has('l')) return long(session, wanted);
  const { machine } = session.around;
  const rows =
    wanted === undefined ? [dom0Row(machine), ...(await session.guests())] : [wanted.row ?? dom0Row(machine)];
  session.around.out(
    listText(rows, { verbose: has('v'), context: has('Z'), cpupool: has('c'), numa: has('n') }),
  );
  return 0;
}

async function long(session: Session, wanted: Target | undefined): Promise<number> {
  const client = await session.client();
  const rows = wanted === undefined ? await session.guests() : wanted.row === undefined ? [] : [wanted.row];
  const documents: unknown[] = [];
  if (wanted === undefined || wanted.domid === 0) documents.push(dom0Json(session.around.machine));
  for (const { domid, name, uuid } of rows) {
    // A domain that ends meanwhile is left out, as by xl.
    const config = await client.request('config', { guest: name, uuid }).catch(() => null);
    if (config !== null) documents.push({ domid, config: configJson({ ...config, name }, true) });
  }
  session.around.out(`${yajl(documents)}\n\n`);
  return 0;
}

export async function vmList({ session }: XlCall): Promise<number> {
  const all = [DOM0, ...(await session.guests())];
  session.line(VM_HEAD);
  for (const domain of all) session.line(vmLine(domain));
  return 0;
}

export const VM_HEAD = 'UUID                                  ID    name';
export const vmLine = ({ uuid, domid, name }: Pick<Target, 'uuid' | 'domid' | 'name'>): string =>
  `${uuid}  ${domid}    ${left(printable(name), 30)}`;

/** A line of `xl vcpu-list`. */
export interface VcpuRow {
  readonly id: number;
  /** `runnable`: it would run if its guest were not paused. */
  readonly state: 'running' | 'blocked' | 'offline' | 'runnable';
  readonly seconds: number;
}

export const VCPU_HEAD =
  'Name                                ID  VCPU   CPU State   Time(s) Affinity (Hard / Soft)';
/** A vCPU of ours is bound to no processor: it is shown on the first. */
export function vcpuLine(name: string, domid: number, { id, state, seconds: s }: VcpuRow, cpu = 0): string {
  const where =
    state === 'offline'
      ? `${right('-', 5)} ${right('-', 3)}-p `
      : `${right(cpu, 5)} ${right(state === 'running' ? 'r' : '-', 3)}${state === 'blocked' ? 'b' : '-'}- `;
  return `${left(printable(name), 32)} ${right(domid, 5)} ${right(id, 5)}${where}${seconds(s, 9)}  all / all`;
}

export async function vcpuList({ session, rest }: XlCall): Promise<number> {
  const { busyS } = session.around.machine;
  session.line(VCPU_HEAD);
  const dom0 = (): void =>
    busyS.forEach((s, id) => {
      session.line(vcpuLine(DOM0_NAME, 0, { id, state: 'running', seconds: s }, id));
    });
  const client = await session.client();
  const show = async (domain: DomainRow): Promise<void> => {
    const { name, domid, uuid, state } = domain;
    const stands = state.includes('p');
    for (const { vcpus } of await client.request('vcpus', { guest: name, uuid }).catch(() => []))
      for (const vcpu of vcpus) {
        const runnable = stands && vcpu.state === 'running';
        session.line(vcpuLine(name, domid, runnable ? { ...vcpu, state: 'runnable' } : vcpu));
      }
  };
  if (rest.length === 0) {
    dom0();
    for (const domain of await session.guests()) await show(domain);
  }
  for (const called of rest) {
    const { row, domid } = await session.find(called);
    if (domid === 0) dom0();
    else if (row !== undefined) await show(row);
  }
  return 0;
}

export async function uptime({ session, rest, has }: XlCall): Promise<number> {
  const { machine } = session.around;
  const short = has('s');
  const rows: { name: string; domid: number; uptimeSeconds: number }[] = [];
  const dom0 = { name: DOM0_NAME, domid: 0, uptimeSeconds: machine.uptimeS };
  if (rest.length === 0) rows.push(dom0, ...(await session.guests()));
  for (const called of rest) {
    const { row, domid } = await session.find(called);
    if (row !== undefined) rows.push(row);
    else if (domid === 0) rows.push(dom0);
  }
  if (!short) session.line(UPTIME_HEAD);
  const clock = machine.now.toTimeString().slice(0, 8);
  for (const row of rows) session.line(uptimeLine(row, short ? clock : undefined));
  return 0;
}

export const UPTIME_HEAD = `${left('Name', 33)} ${right('ID', 4)} Uptime`;
/** `clock`: the time of day, for the form of uptime. */
export function uptimeLine(
  { name, domid, uptimeSeconds }: Pick<DomainRow, 'name' | 'domid' | 'uptimeSeconds'>,
  clock?: string,
): string {
  const text = uptimeText(uptimeSeconds, clock !== undefined);
  const shown = printable(name);
  return clock === undefined
    ? `${left(shown, 33)} ${right(domid, 4)} ${text}`
    : ` ${clock} up ${text}, ${shown} (${domid})`;
}

export async function domid({ session, rest }: XlCall): Promise<number> {
  const found = rest[0] === DOM0_NAME ? DOM0 : (await session.guests()).find(({ name }) => name === rest[0]);
  if (found === undefined)
    throw new XlEnd(FAILED, `Can't get domid of domain name '${rest[0]}', maybe this domain does not exist.`);
  session.line(String(found.domid));
  return 0;
}

export async function domname({ session, rest }: XlCall): Promise<number> {
  const digits = /^\s*[+-]?\d+/.exec(rest[0]);
  if (digits === null) throw new XlEnd(FAILED, 'Invalid domain id.\n');
  const id = Number(digits[0]);
  const found = id === 0 ? DOM0 : (await session.guests()).find((row) => row.domid === id);
  if (found === undefined)
    throw new XlEnd(FAILED, `Can't get domain name of domain id '${id}', maybe this domain does not exist.`);
  session.line(found.name);
  return 0;
}
