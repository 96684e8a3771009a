/** Output in the columns that `xl` prints, so that scripts written for it can read it. */

import type { Shown } from '../appliance/shown.js';
import type { PointRow, VcpuStatus } from '../guest-process/guest-runner.js';
import type { CrashRow, DefinedRow, DiskRow, DomainRow, NetworkRow } from '../protocol/control.js';
import type { MoveProgress, StorageProgress } from '../protocol/moves.js';
import { printable } from '../protocol/printable.js';

/** The most characters of one cell where there may be many columns. */
const MAX_CELL = 60;

/** Text that a guest may have influenced is escaped, so that it stays in its cell. */
const left = (text: string, width: number): string => printable(text).padEnd(width);
const right = (value: string | number, width: number): string => String(value).padStart(width);

/** `xl list`. */
export function listTable(rows: readonly DomainRow[]): string[] {
  return [
    'Name                                        ID   Mem VCPUs\tState\tTime(s)',
    ...rows.map(
      (r) =>
        `${left(r.name, 40)} ${right(r.domid, 5)} ${right(r.memoryMib, 5)} ${right(r.vcpus, 5)}     ${r.state}  ${right(r.seconds.toFixed(1), 8)}`,
    ),
  ];
}

/** When a guest is started with its host, in words. */
export function autostartWords({ autostart, saved, pending }: Omit<DefinedRow, 'warnings'>): string {
  if (saved !== undefined) return `is in ${saved}`;
  if (autostart === null) return 'not started with its host';
  const { order, delayS } = autostart;
  const when = `started with its host, order ${order}${delayS > 0 ? `, after ${delayS} s` : ''}`;
  return pending ? `${when}: about to be` : when;
}

/** `list --all`: as `xl list`, with the guests that do not run, and what becomes of each when its host is booted. */
export function definedTable(rows: readonly DomainRow[], defined: readonly DefinedRow[]): string[] {
  const [head, ...running] = listTable(rows);
  const words = (row: DefinedRow): string =>
    row.kept === 'crashed' ? 'kept, as it crashed' : autostartWords(row);
  return [
    `${head}  Defined`,
    ...rows.map((row, i) => {
      const known = defined.find(({ uuid }) => uuid === row.uuid.toLowerCase());
      return `${running[i]}  ${known === undefined ? 'no' : words(known)}`;
    }),
    ...defined
      .filter(({ uuid }) => !rows.some((row) => row.uuid.toLowerCase() === uuid))
      .map(
        (row) =>
          `${left(row.name, 40)} ${right('-', 5)} ${right(row.memoryMib, 5)} ${right(row.vcpus, 5)}     ${row.kept === 'crashed' ? '----c-' : '------'}  ${right('0.0', 8)}  ${printable(words(row))}`,
      ),
  ];
}

/** `crashes`. */
export function crashTable(rows: readonly CrashRow[]): string[] {
  return [
    `${left('Name', 24)} ${left('When', 20)} ${right('Core MiB', 8)}  ${left('Directory', 32)}  Why`,
    ...rows.map(
      ({ name, atMs, coreBytes, directory, exit }) =>
        `${left(name, 24)} ${left(`${new Date(atMs).toISOString().slice(0, 19)}Z`, 20)} ${right(coreBytes === 0 ? '-' : Math.round(coreBytes / 2 ** 20), 8)}  ${left(directory, 32)}  ${printable(exit.details.split('\n')[0] || exit.reason)}`,
    ),
  ];
}

/** Formats as "1 day, 2:03:04". */
export function duration(seconds: number): string {
  const whole = Math.floor(seconds);
  const days = Math.floor(whole / 86_400);
  const two = (v: number): string => String(v).padStart(2, '0');
  const time = `${Math.floor(whole / 3600) % 24}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return days === 0 ? time : `${days} day${days === 1 ? '' : 's'}, ${time}`;
}

/** `xl uptime`. */
export function uptimeTable(rows: readonly DomainRow[]): string[] {
  return [
    `${left('Name', 33)} ${right('ID', 4)} Uptime`,
    ...rows.map((r) => `${left(r.name, 33)} ${right(r.domid, 4)} ${duration(r.uptimeSeconds)}`),
  ];
}

export interface VcpuRows {
  readonly domid: number;
  readonly name: string;
  readonly vcpus: readonly VcpuStatus[];
}

/** `xl vcpu-list`. */
export function vcpuTable(rows: readonly VcpuRows[]): string[] {
  const letters = { running: 'r--', blocked: '-b-', offline: '--p' } as const;
  return [
    'Name                                ID  VCPU   CPU State   Time(s) Affinity (Hard / Soft)',
    ...rows.flatMap(({ name, domid, vcpus }) =>
      vcpus.map(
        (v) =>
          `${left(name, 32)} ${right(domid, 5)} ${right(v.id, 5)}     - ${right(letters[v.state], 5)}  ${right(v.seconds.toFixed(1), 9)}  all / all`,
      ),
    ),
  ];
}

/** `xl block-list`; the last column is our own. */
export function diskTable(rows: readonly DiskRow[]): string[] {
  return [
    'Vdev   BE  handle state evt-ch ring-ref mode BE-path                                  Link',
    ...rows.map(
      (r) =>
        `${left(r.vdev, 6)} 0  ${right(r.devid, 7)} ${right(r.state, 5)} ${right(r.evtchn, 6)} ${right(r.ringRef, 8)} ${left(r.readOnly ? 'r' : 'w', 4)} ${left(r.backend, 40)} ${left(r.link, 0)}`,
    ),
  ];
}

/** `xl network-list`; the last column is our own. */
export function networkTable(rows: readonly NetworkRow[]): string[] {
  return [
    'Idx BE Mac Addr.         handle state evt-ch   tx-/rx-ring-ref BE-path                        Link',
    ...rows.map(
      (r) =>
        `${left(String(r.devid), 3)} 0  ${left(r.mac, 17)} ${right(r.devid, 6)} ${right(r.state, 5)} ${right(r.evtchn, 6)} ${right(r.txRingRef, 5)}/${left(String(r.rxRingRef), 11)} ${left(r.backend, 30)} ${left(r.link, 0)}`,
    ),
  ];
}

/** How an outer value is shown to people: an invented value is always marked. */
export const outerWords = ({ outer, pretended }: Pick<PointRow, 'outer' | 'pretended'>): string =>
  pretended ? `${outer} (pretended)` : outer;

/** The ledger of migration points. */
export function pointsTable(rows: readonly PointRow[]): string[] {
  const widths = [
    Math.max(5, ...rows.map((r) => r.name.length)),
    Math.max(14, ...rows.map((r) => r.inner.length)),
    Math.max(14, ...rows.map((r) => outerWords(r).length)),
  ];
  const line = (name: string, inner: string, outer: string, moves: string | number): string =>
    `${left(name, widths[0])}  ${left(inner, widths[1])}  ${left(outer, widths[2])}  ${right(moves, 5)}`;
  return [
    line('Point', 'The guest sees', 'This host gave', 'Moves'),
    ...rows.map((r) => line(r.name, r.inner, outerWords(r), r.moves)),
  ];
}

/** The ledger of a helper domain: one inner value, and one column for each place at which it has been. */
export function shownTable({ places, points }: Shown): string[] {
  const cells = [
    ['Point', 'The guest sees', ...places.map(({ domid }) => `As domain ${domid}`)],
    ...points.map(({ name, inner, outer }) => [name, inner, ...outer]),
  ].map((row) => row.map((cell) => printable(cell, MAX_CELL)));
  const widths = cells[0].map((_, column) => Math.max(...cells.map((row) => (row[column] ?? '').length)));
  return cells.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}

export function progressLine(p: MoveProgress | StorageProgress): string {
  if ('copied' in p)
    return `disks: ${(p.copied / 1e6).toFixed(0)} MB copied, ${(p.pending / 1e6).toFixed(0)} MB to go`;
  return `round ${p.round}: ${p.pages} pages, ${p.mbPerSecond.toFixed(0)} MB/s, dirty ${p.dirty} (${Math.round(p.dirtyPagesPerSecond)}/s), expected downtime ${p.expectedDowntimeMs.toFixed(1)} ms`;
}
