/**
 * The ledger: every migration point with the guest's own value and the one that the present host gave.
 * Inner values are read from the guest each time, so that the table shows what is, not what ought to be.
 */
import type { Host } from '../host/host.js';
import { MFN_BASE } from '../machine/machine.js';
import { type Guest, INNER_DOMID } from './guest.js';

/** One migration point. `held` says how, `rows` name the groups of the ABI specification. */
export interface Point {
  readonly name: string;
  readonly rows: string;
  readonly held: string;
  inner(guest: Guest): string;
  outer(host: Host): string;
}

const seconds = (ns: number): string => `${(ns / 1e9).toFixed(3)} s`;
const NONE = '(none: the guest only ever sees its own)';

export const POINTS: readonly Point[] = [
  {
    name: 'domain id',
    rows: 'D1-D4',
    held: 'a constant of the container; the host knows the domain by another',
    inner: () => String(INNER_DOMID),
    outer: (h) => String(h.domid),
  },
  {
    name: 'machine frames',
    rows: 'M1-M11',
    held: 'MFN = PFN + a constant; page tables, M2P and registers hold only these',
    inner: (g) => `0x${MFN_BASE.toString(16)}+${g.domain.machine.frames}`,
    outer: (h) => `store ring 0x${h.storeFrame.toString(16)}, console ring 0x${h.consoleFrame.toString(16)}`,
  },
  {
    name: 'event channel: store',
    rows: 'E1-E5',
    held: 'port table saved with the guest',
    inner: (g) => String(g.domain.storePort),
    outer: (h) => String(h.storePort),
  },
  {
    name: 'event channel: console',
    rows: 'E1-E5',
    held: 'port table saved with the guest',
    inner: (g) => String(g.domain.consolePort),
    outer: (h) => String(h.consolePort),
  },
  {
    name: 'grant table',
    rows: 'G1-G5',
    held: 'its frames are guest memory and never dropped',
    inner: (g) => `version 1 at 0x${(MFN_BASE + g.domain.layout.grants).toString(16)}`,
    outer: () => NONE,
  },
  {
    name: 'system time',
    rows: 'T1, T2, T6, T7',
    held: 'one virtual clock, continued from where it stopped',
    inner: (g) => seconds(g.domain.clock.now()),
    outer: (h) => `uptime ${seconds(h.clock.uptime())}`,
  },
  {
    name: 'TSC frequency',
    rows: 'T3, T4, T10',
    held: 'the TSC is the virtual clock: 1 GHz',
    inner: () => '1000000 kHz',
    outer: (h) => `${h.clock.tscKhz} kHz`,
  },
  {
    name: 'wall clock',
    rows: 'T5, T8, T9',
    held: 'never backwards; follows the host where that is ahead',
    inner: (g) => new Date(g.wallClock() / 1e6).toISOString(),
    outer: (h) => new Date(h.clock.wallClock() / 1e6).toISOString(),
  },
  {
    name: 'hypervisor version',
    rows: 'V, C1',
    held: 'a profile frozen at power-on and saved',
    inner: (g) => {
      const { major, minor, extraversion } = g.domain.config.identity;
      return `${major}.${minor}${extraversion}`;
    },
    outer: (h) => h.identity.xenVersion,
  },
  {
    name: 'processor',
    rows: 'C1-C10',
    held: 'CPUID, MSRs and control registers from the frozen profile',
    inner: () => 'Stillpoint virtual CPU',
    outer: (h) => h.identity.cpuModel,
  },
  {
    name: 'xenstore tree, watches, transactions',
    rows: 'S1-S7',
    held: "a whole store in the container, saved in Xen's own migration format",
    inner: () => `/local/domain/${INNER_DOMID}`,
    outer: (h) => `/local/domain/${h.domid}`,
  },
  {
    name: 'reservations',
    rows: 'R',
    held: 'part of the saved domain',
    inner: (g) => `${g.domain.config.memoryFrames} of ${g.domain.config.maxFrames} frames`,
    outer: () => NONE,
  },
  {
    name: 'suspend request',
    rows: 'X, S6',
    held: 'control/shutdown is never written for a move',
    inner: (g) => JSON.stringify(g.store.dom0.tryRead(`/local/domain/${INNER_DOMID}/control/shutdown`) ?? ''),
    outer: () => NONE,
  },
];
