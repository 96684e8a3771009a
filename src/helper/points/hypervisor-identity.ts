/** The identity of the hypervisor: version, strings, features, and which hypercalls exist. */
import type { XenIdentity } from '../../hypervisor/identity.js';
import type { Guest } from '../guest.js';
import { constantPoint, type MigrationPoint, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'hypervisor',
  rows: 'V',
  seen: 'xen_version in all its parts, CPUID 0x40000000 and up, which hypercalls answer ENOSYS',
  held: 'a profile of Xen 4.17, frozen at power-on and saved',
  proof: [
    'test/e2e/moves.test.ts: sees no difference in anything that it can observe',
    'src/hypervisor/calls/xen-version.test.ts: gets the constant profile, in the form in which Xen 4.17 reports it',
  ],
};

const version = ({ major, minor, extraversion }: XenIdentity): string => `${major}.${minor}${extraversion}`;

export const hypervisorIdentity = (guest: Guest): MigrationPoint =>
  constantPoint(
    about,
    () => version(guest.domain.config.identity),
    (host) => host.identity.xenVersion,
    'xenVersion',
  );
