/** The protocol of xenstore (`io/xs_wire.h`) and the page that carries it between a guest and the store. */
import { struct } from './struct.js';

export const XsdSockmsg = struct('xsd_sockmsg', 16, {
  type: [0, 'u32'],
  req_id: [4, 'u32'],
  tx_id: [8, 'u32'],
  len: [12, 'u32'],
});

/** `xsd_sockmsg.type`. */
export const XS_CONTROL = 0;
export const XS_DIRECTORY = 1;
export const XS_READ = 2;
export const XS_GET_PERMS = 3;
export const XS_WATCH = 4;
export const XS_UNWATCH = 5;
export const XS_TRANSACTION_START = 6;
export const XS_TRANSACTION_END = 7;
export const XS_INTRODUCE = 8;
export const XS_RELEASE = 9;
export const XS_GET_DOMAIN_PATH = 10;
export const XS_WRITE = 11;
export const XS_MKDIR = 12;
export const XS_RM = 13;
export const XS_SET_PERMS = 14;
export const XS_WATCH_EVENT = 15;
export const XS_ERROR = 16;
export const XS_IS_DOMAIN_INTRODUCED = 17;
export const XS_RESUME = 18;
export const XS_SET_TARGET = 19;
export const XS_RESET_WATCHES = 21;
export const XS_DIRECTORY_PART = 22;
/** Added after Xen 4.17. */
export const XS_GET_FEATURE = 23;
export const XS_SET_FEATURE = 24;
export const XS_GET_QUOTA = 25;
export const XS_SET_QUOTA = 26;
/** The number of valid types, and one that will never be valid. */
export const XS_TYPE_COUNT = 27;
export const XS_INVALID = 0xffff;

/** The payload of XS_ERROR is the name of the error as a string with its terminating zero. */
export const XSD_ERRORS = [
  'EINVAL',
  'EACCES',
  'EEXIST',
  'EISDIR',
  'ENOENT',
  'ENOMEM',
  'ENOSPC',
  'EIO',
  'ENOTEMPTY',
  'ENOSYS',
  'EROFS',
  'EBUSY',
  'EAGAIN',
  'EISCONN',
  'E2BIG',
  'EPERM',
] as const;
export type XsdError = (typeof XSD_ERRORS)[number];

/** Positions of the strings in the payload of XS_WATCH_EVENT. */
export const XS_WATCH_PATH = 0;
export const XS_WATCH_TOKEN = 1;

export const XenstoreDomainInterface = struct('xenstore_domain_interface', 2076, {
  req: [0, 'char[1024]'],
  rsp: [1024, 'char[1024]'],
  req_cons: [2048, 'u32'],
  req_prod: [2052, 'u32'],
  rsp_cons: [2056, 'u32'],
  rsp_prod: [2060, 'u32'],
  server_features: [2064, 'u32'],
  connection: [2068, 'u32'],
  error: [2072, 'u32'],
});

export const XENSTORE_RING_SIZE = 1024;

/**
 * The longest payload (a longer one ends the connection), and the longest absolute and relative path (longer ones
 * give EINVAL), in bytes.
 */
export const XENSTORE_PAYLOAD_MAX = 4096;
export const XENSTORE_ABS_PATH_MAX = 3072;
export const XENSTORE_REL_PATH_MAX = 2048;

/** Bits of `server_features`. */
export const XENSTORE_SERVER_FEATURE_RECONNECTION = 1;
export const XENSTORE_SERVER_FEATURE_ERROR = 2;
/** Added after Xen 4.17: XS_WATCH accepts a depth. */
export const XENSTORE_SERVER_FEATURE_WATCHDEPTH = 4;

/** `connection`: a guest writes RECONNECT and notifies; the store then empties the ring and writes CONNECTED. */
export const XENSTORE_CONNECTED = 0;
export const XENSTORE_RECONNECT = 1;

/** `error`. */
export const XENSTORE_ERROR_NONE = 0;
export const XENSTORE_ERROR_COMM = 1;
export const XENSTORE_ERROR_RINGIDX = 2;
export const XENSTORE_ERROR_PROTO = 3;
