/** `xl block-*`, `network-*`, `cd-*`. */
import { existsSync } from 'node:fs';
import { vdevNumber } from '../guest/disk-spec.js';
import type { DiskRow, NetworkRow } from '../protocol/control.js';
import { Failure } from '../protocol/failure.js';
import { printable } from '../protocol/printable.js';
import { left, right } from './format.js';
import { FAILED, XlEnd } from './session.js';
import type { XlCall } from './verb.js';

/** How a verb ends if the words for a device cannot be read. */
const misread =
  (words: (why: string) => string) =>
  (why: string, error: unknown): XlEnd | undefined =>
    error instanceof Failure && error.code === 'usage' ? new XlEnd(FAILED, words(why)) : undefined;

export const BLOCK_HEAD = `Vdev  BE  handle state evt-ch ring-ref ${left('BE-path', 30)}`;
export const blockLine = (
  domid: number,
  row: Pick<DiskRow, 'devid' | 'state' | 'evtchn' | 'ringRef' | 'backend'>,
) =>
  `${left(row.devid, 5)} ${left(0, 3)} ${left(domid, 6)} ${left(row.state, 5)} ${left(row.evtchn, 6)} ${left(row.ringRef, 8)} ${left(printable(row.backend), 30)}`;

export async function blockList({ session, rest }: XlCall): Promise<number> {
  session.around.out(`${BLOCK_HEAD}\n`);
  const client = await session.client();
  for (const called of rest) {
    const found = await session.named(called);
    if (found === undefined) {
      session.say(`${called} is an invalid domain identifier`);
      continue;
    }
    const { row } = found;
    if (row === undefined) continue;
    const { name, uuid, domid } = row;
    for (const disk of await client.request('blockList', { guest: name, uuid }).catch(() => []))
      session.around.out(`${blockLine(domid, disk)}\n`);
  }
  return 0;
}

export async function blockAttach({ session, rest }: XlCall): Promise<number> {
  const found = await session.named(rest[0]);
  if (found === undefined) throw new XlEnd(FAILED, `${rest[0]} is an invalid domain identifier`);
  const failed = 'libxl_device_disk_add failed.';
  const { name, uuid } = await session.guest(rest[0], failed);
  const spec = rest.slice(1).join(',');
  await session.by(
    (client) => client.request('blockAttach', { guest: name, uuid, spec }),
    failed,
    FAILED,
    misread((why) => `command line: config parsing error in disk specification: ${why}`),
  );
  return 0;
}

export async function blockDetach({ session, rest, has }: XlCall): Promise<number> {
  const [called, which] = rest;
  const unknown = `Error: Device ${which} not connected.`;
  const { name, uuid } = await session.guest(called, unknown);
  const devid = vdevNumber(which);
  const rows = await session.by((client) => client.request('blockList', { guest: name, uuid }), unknown);
  if (!rows.some((row) => row.devid === devid)) throw new XlEnd(FAILED, unknown);
  const force = has('f');
  await session.by(
    (client) => client.request('blockDetach', { guest: name, uuid, which, force }),
    `libxl_device_disk_${force ? 'destroy' : 'safe_remove'} failed.`,
  );
  return 0;
}

export const NETWORK_HEAD = `Idx BE ${left('Mac Addr.', 17)} handle state evt-ch   tx-/rx-ring-ref ${left('BE-path', 30)}`;
type NetworkCells = Pick<
  NetworkRow,
  'devid' | 'mac' | 'state' | 'evtchn' | 'txRingRef' | 'rxRingRef' | 'backend'
>;
export const networkLine = (row: NetworkCells): string =>
  `${left(row.devid, 3)} ${left(0, 2)} ${row.mac}${right(row.devid, 6)} ${right(row.state, 5)} ${right(row.evtchn, 6)} ${right(row.txRingRef, 5)}/${left(row.rxRingRef, 11)} ${left(printable(row.backend), 30)}`;

export async function networkList({ session, rest }: XlCall): Promise<number> {
  session.around.out(`${NETWORK_HEAD}\n`);
  for (const called of rest) {
    const { row } = await session.find(called);
    if (row === undefined) continue;
    const { name, uuid } = row;
    const client = await session.client();
    for (const network of await client.request('networkList', { guest: name, uuid }).catch(() => []))
      session.around.out(`${networkLine(network)}\n`);
  }
  return 0;
}

export async function networkAttach({ session, rest }: XlCall): Promise<number> {
  const failed = 'libxl_device_nic_add failed.';
  const { name, uuid } = await session.guest(rest[0], failed);
  const spec = rest.slice(1).join(',');
  const { warnings } = await session.by(
    (client) => client.request('networkAttach', { guest: name, uuid, spec }),
    failed,
    FAILED,
    misread((why) => `Invalid parameter: ${why}`),
  );
  for (const warning of warnings ?? []) session.say(`WARNING: ${warning}`);
  return 0;
}

export async function networkDetach({ session, rest }: XlCall): Promise<number> {
  const [called, which] = rest;
  const unknown = `Unknown device ${which}.`;
  const { name, uuid } = await session.guest(called, unknown);
  const rows = await session.by((client) => client.request('networkList', { guest: name, uuid }), unknown);
  const address = which.toLowerCase();
  const found = rows.find(({ devid, mac }) =>
    which.includes(':') ? mac === address : devid === Number.parseInt(which, 10),
  );
  if (found === undefined) throw new XlEnd(FAILED, unknown);
  await session.by(
    (client) =>
      client.request('networkDetach', { guest: name, uuid, which: String(found.devid), force: false }),
    'libxl_device_nic_del failed.',
  );
  return 0;
}

/** Xen's PV interface for disks has no change of a medium: libxl refuses it for PV guests, too. */
export async function cdInsert({ session, rest }: XlCall): Promise<number> {
  const { domid } = await session.guest(rest[0]);
  const [, , path] = rest;
  if (path !== undefined && !existsSync(path)) throw new XlEnd(FAILED, `Cannot stat file: ${path}`);
  throw new XlEnd(FAILED, `libxl: error: Domain ${domid}:cdrom-insert requires an HVM domain`);
}
