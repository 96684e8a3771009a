/**
 * An Ethernet frame together with the work on it that its sender has left to others (offloads), in the terms of
 * virtio-net's header (OASIS virtio 1.2, 5.1.6). That way a checksum or a segmentation is done once, by the last one
 * on the way who has to.
 */

/** Values of `gsoType`: into what kind of segments the frame is to be cut. */
export const GSO_NONE = 0;
export const GSO_TCPV4 = 1;
export const GSO_TCPV6 = 4;
/**
 * The smallest payload of a segment that is accepted, in bytes. Linux sends no less (tcp_min_snd_mss 48, less TCP
 * options).
 */
export const MIN_GSO_BYTES = 32;
/** Bits of `flags`. */
export const NEEDS_CSUM = 1;
export const DATA_VALID = 2;

export const ETHERNET_HEADER_BYTES = 14;
/** The largest frame that any link carries, in bytes: 64 KiB of IP after an Ethernet header with a VLAN tag. */
export const MAX_FRAME_BYTES = 65_535 + 18;

export interface Frame {
  /** The frame from its destination address on, without the check sequence. */
  bytes: Uint8Array;
  /**
   * NEEDS_CSUM: the checksum over the bytes from csumStart to the end is to be stored at csumStart + csumOffset,
   * where the sum of the pseudo header is now. DATA_VALID: the sender vouches for the checksums.
   */
  flags: number;
  csumStart: number;
  csumOffset: number;
  gsoType: number;
  /** Payload bytes in each segment, if gsoType is not GSO_NONE. */
  gsoSize: number;
}

/** A frame on which no work is left to do. */
export function plainFrame(bytes: Uint8Array): Frame {
  return { bytes, flags: 0, csumStart: 0, csumOffset: 0, gsoType: GSO_NONE, gsoSize: 0 };
}

/** A copy that stays valid when the original's bytes change. */
export function copyFrame(f: Frame): Frame {
  return { ...f, bytes: f.bytes.slice() };
}
