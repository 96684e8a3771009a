/** What the server uses of the protocol besides the numbers in src/xen/xs-wire.ts. */
import {
  XENSTORE_SERVER_FEATURE_ERROR,
  XENSTORE_SERVER_FEATURE_RECONNECTION,
  XENSTORE_SERVER_FEATURE_WATCHDEPTH,
  XsdSockmsg,
} from '../../xen/xs-wire.js';

/** The size of a message's header in bytes. */
export const HEADER_BYTES = XsdSockmsg.sizeof;

/** All server features that are known here. */
export const FEATURES =
  XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR | XENSTORE_SERVER_FEATURE_WATCHDEPTH;
