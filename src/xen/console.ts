/**
 * The console page (`io/console.h`): `in` is the ring towards the guest, `out` the one from it. The indices are
 * free-running and are masked with the size of their ring.
 */
import { struct } from './struct.js';

export const XenconsInterface = struct('xencons_interface', 3088, {
  in: [0, 'char[1024]'],
  out: [1024, 'char[2048]'],
  in_cons: [3072, 'u32'],
  in_prod: [3076, 'u32'],
  out_cons: [3080, 'u32'],
  out_prod: [3084, 'u32'],
});

export const XENCONS_IN_SIZE = 1024;
export const XENCONS_OUT_SIZE = 2048;
/** Since Xen 4.21: a byte right after the indices in which the back end says whether it is connected. */
export const XENCONS_CONNECTION = 3088;
export const XENCONSOLE_CONNECTED = 0;
export const XENCONSOLE_DISCONNECTED = 1;
