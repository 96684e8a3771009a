/**
 * The numbers of the xenstore protocol.
 * Source: xen/include/public/io/xs_wire.h (the operations above 22 and the feature bits above 2 are those of
 * docs/misc/xenstore.txt and xs_wire.h after Xen 4.20).
 */

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
export const XS_GET_FEATURE = 23;
export const XS_SET_FEATURE = 24;
export const XS_GET_QUOTA = 25;
export const XS_SET_QUOTA = 26;

/** Never an operation. */
export const XS_INVALID = 0xffff;

/** Bytes of the header: type, req_id, tx_id, len; each a little-endian u32. */
export const HEADER_BYTES = 16;
export const PAYLOAD_MAX = 4096;

export const FEATURE_RECONNECTION = 1;
export const FEATURE_ERROR = 2;
export const FEATURE_WATCHDEPTH = 4;
/** All that this server knows. */
export const FEATURES = FEATURE_RECONNECTION | FEATURE_ERROR | FEATURE_WATCHDEPTH;

export const DOMID_SELF = 0x7ff0;
export const DOMID_INVALID = 0x7ff4;
