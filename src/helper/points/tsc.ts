/** The time stamp counter: its value, its rate, TSC_AUX, and what CPUID and MSRs say about it. */
import { cpuid } from '../../hypervisor/identity.js';
import type { Guest } from '../guest.js';
import { constantPoint, type MigrationPoint, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'TSC',
  rows: 'T3, T4, T10',
  seen: 'rdtsc, rdtscp, CPUID 0x40000003 with its incarnation, MSR 0x10: 1 GHz',
  held: 'the TSC is the virtual clock; its frequency and incarnation are part of the frozen profile',
  proof: [
    'src/hypervisor/time/time-info.test.ts: gives the same time by its published record (vcpu_time_info) as by the TSC',
    'test/e2e/moves.test.ts: sees no difference in anything that it can observe',
  ],
};

export const tsc = (guest: Guest): MigrationPoint =>
  constantPoint(
    about,
    () => `1000000 kHz, incarnation ${cpuid(guest.domain.config.identity, 0x4000_0003, 0).edx}`,
    (host) => `${host.clock.tscKhz} kHz`,
    'tscKhz',
  );
