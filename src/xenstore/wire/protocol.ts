/** What the server takes from the protocol beside the numbers of src/xen/xs-wire.ts. */
import {
  XENSTORE_SERVER_FEATURE_ERROR,
  XENSTORE_SERVER_FEATURE_RECONNECTION,
  XENSTORE_SERVER_FEATURE_WATCHDEPTH,
  XsdSockmsg,
} from '../../xen/xs-wire.js';

/** Of a message, before its payload. */
export const HEADER_BYTES = XsdSockmsg.sizeof;

/** All server features that are known here. */
export const FEATURES =
  XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR | XENSTORE_SERVER_FEATURE_WATCHDEPTH;
