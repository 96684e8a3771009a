/** What the server takes from the protocol beside the numbers of src/xen/xs-wire.ts. */
import {
  XENSTORE_SERVER_FEATURE_ERROR,
  XENSTORE_SERVER_FEATURE_RECONNECTION,
  XENSTORE_SERVER_FEATURE_WATCHDEPTH,
} from '../../xen/xs-wire.js';

/** Bytes of the header: type, req_id, tx_id, len; each a little-endian u32. */
export const HEADER_BYTES = 16;

/** All server features that are known here. */
export const FEATURES =
  XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR | XENSTORE_SERVER_FEATURE_WATCHDEPTH;
