// npm run soak -- i386: Debian's i386 busybox, bash and perl print the same in an amd64 guest as natively.
import { soakTests } from './lib/soaked.js';

soakTests(['test/e2e/i386.test.ts'], { STILLPOINT_LONG: '1' }, () => 3);
