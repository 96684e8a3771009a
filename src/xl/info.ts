/** `xl info`, `xl dmesg`: the host, as far as there is a Xen in it. */
import type { HostInfo } from '../client/index.js';
import { printable } from '../protocol/printable.js';
import { left, right } from './format.js';
import type { Machine } from './machine.js';
import type { XlCall } from './verb.js';

const MIB = 2 ** 20;
const PAGE = 4096;
/** Of the Xen that guests see: src/xen, HYPERVISOR_VIRT_START. */
const VIRT_START = '0xffff800000000000';
const NAME_WIDTH = 23;

/** The fields of `xl info`, in its order; docs/xl.md says which of them a host of ours cannot have. */
export function infoFields(info: HostInfo, machine: Machine, builder: string): [string, string][] {
  const [version, major, minor, extra] = /^(\d+)\.(\d+)(.*)$/s.exec(info.xen_version) ?? ['', '0', '0', ''];
  return [
    ['host', machine.host],
    ['release', machine.release],
    ['version', machine.version],
    ['machine', machine.machine],
    ['nr_cpus', String(machine.cpus)],
    ['max_cpu_id', String(machine.cpus - 1)],
    ['nr_nodes', '1'],
    ['cores_per_socket', String(machine.cpus)],
    ['threads_per_core', '1'],
    ['cpu_mhz', (info.tsc_khz / 1000).toFixed(3)],
    ['hw_caps', Array(8).fill('00000000').join(':')],
    ['virt_caps', 'pv'],
    ['total_memory', String(Math.floor(machine.totalBytes / MIB))],
    ['free_memory', String(Math.floor(machine.freeBytes / MIB))],
    ['sharing_freed_memory', '0'],
    ['sharing_used_memory', '0'],
    ['outstanding_claims', '0'],
    ['free_cpus', '0'],
    ['xen_major', major],
    ['xen_minor', minor],
    ['xen_extra', extra],
    ['xen_version', version],
    ['xen_caps', 'xen-3.0-x86_64 '],
    ['xen_scheduler', 'credit2'],
    ['xen_pagesize', String(PAGE)],
    ['platform_params', `virt_start=${VIRT_START}`],
    ['xen_changeset', ''],
    ['xen_commandline', ''],
    ['cc_compiler', builder],
    ['cc_compile_by', ''],
    ['cc_compile_domain', ''],
    ['cc_compile_date', ''],
    ['build_id', ''],
    ['xend_config_format', '4'],
  ];
}

export async function info({ session, rest, has }: XlCall): Promise<number> {
  const { machine } = session.around;
  const [client, { VERSION }] = await Promise.all([
    session.client(),
    import('../protocol/generated/version.js'),
  ]);
  const fields = infoFields(await client.info(), machine, `Stillpoint ${VERSION}`);
  const only = has('n') ? undefined : rest[0];
  for (const [name, value] of fields) {
    // A word selects the fields whose lines begin so, and only their values are printed.
    const line = `${left(name, NAME_WIDTH)}: ${printable(value)}`;
    if (only === undefined) session.around.out(`${line}\n`);
    else if (line.startsWith(only)) session.around.out(`${printable(value)}\n`);
    if (name === 'free_cpus' && has('n')) session.around.out(topology(machine));
  }
  return 0;
}

function topology({ cpus, totalBytes, freeBytes }: Machine): string {
  const mib = (bytes: number): string => right(Math.floor(bytes / MIB), 6);
  return [
    'cpu_topology           :',
    'cpu:    core    socket     node',
    ...Array.from(
      { length: cpus },
      (_, i) => `${right(i, 3)}:    ${right(i, 4)}     ${right(0, 4)}     ${right(0, 4)}`,
    ),
    'device topology        :',
    'device           node',
    'No device topology data available',
    'numa_info              :',
    'node:    memsize    memfree    distances',
    `${right(0, 4)}:    ${mib(totalBytes)}     ${mib(freeBytes)}      10`,
    '',
  ].join('\n');
}

/** A hypervisor of ours has one guest: the messages are those of all of them, guest by guest. */
export async function dmesg({ session }: XlCall): Promise<number> {
  const client = await session.client();
  for (const { name, uuid } of await session.guests())
    session.lines(await client.request('dmesg', { guest: name, uuid }).catch(() => ''));
  return 0;
}
