// npm run soak -- i386: Debian's i386 busybox, bash and perl in an amd64 guest print what they print natively.
import { soakTests } from './lib/soaked.js';

soakTests(['test/e2e/i386.test.ts'], { STILLPOINT_LONG: '1' }, () => 3);
