/** The processor: CPUID, MSRs, control registers, instructions, floating-point state. */
import { constantPoint, type MigrationPoint, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'processor',
  rows: 'C1-C6, C9',
  seen: 'CPUID native and forced, MSRs, CR0 and CR4, what sgdt and the like store, which instructions there are',
  held: 'CPUID and MSRs from the frozen profile; instructions run in the container and nowhere else',
  proof: [
    'test/e2e/moves.test.ts: sees no difference in anything that it can observe',
    'src/hypervisor/emulation/privileged.test.ts: reads and writes the MSRs of the constant profile',
  ],
};

export const processor = (): MigrationPoint =>
  constantPoint(
    about,
    () => 'Stillpoint virtual CPU',
    (host) => host.identity.cpuModel,
    'cpuModel',
  );
