/** Where a domU's kernel shows what its Xen gave. Tests have other places. */
export interface XenPlaces {
  /** The xenbus device, or the socket of a xenstored. */
  readonly xenbus: string;
  readonly sys: string;
  readonly proc: string;
  readonly dev: string;
}

export const PLACES: XenPlaces = { xenbus: '/dev/xen/xenbus', sys: '/sys', proc: '/proc', dev: '/dev' };
