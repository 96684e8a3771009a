/**
 * One Ethernet frame on its way, with the work on it that its sender left to others, in the terms of virtio-net's
 * header (OASIS virtio 1.2, 5.1.6): so a checksum or a cutting into segments is done once, by the last who must.
 */

/** `gsoType`: what the frame is to be cut into. */
export const GSO_NONE = 0;
export const GSO_TCPV4 = 1;
export const GSO_TCPV6 = 4;
/** The least payload of a segment that is believed: Linux sends no less (tcp_min_snd_mss 48, less TCP options). */
export const MIN_GSO_BYTES = 32;
/** Bits of the header's flags. */
export const NEEDS_CSUM = 1;
export const DATA_VALID = 2;

export const ETHERNET_HEADER_BYTES = 14;
/** The largest frame that any link carries: 64 KiB of IP behind an Ethernet header with a VLAN tag. */
export const MAX_FRAME_BYTES = 65_535 + 18;

export interface Frame {
  /** The frame from its destination address on, without padding and check sequence. */
  bytes: Uint8Array;
  /** NEEDS_CSUM: the sum from csumStart to the end is to be put at csumStart + csumOffset, which holds the sum of
   * the pseudo header. DATA_VALID: the sender vouches for the checksums. */
  flags: number;
  csumStart: number;
  csumOffset: number;
  gsoType: number;
  /** Bytes of payload in each segment, where gsoType is not GSO_NONE. */
  gsoSize: number;
}

/** A frame that is complete as it stands. */
export function plainFrame(bytes: Uint8Array): Frame {
  return { bytes, flags: 0, csumStart: 0, csumOffset: 0, gsoType: GSO_NONE, gsoSize: 0 };
}

/** A copy that stays good when the original's bytes change. */
export function copyFrame(f: Frame): Frame {
  return { ...f, bytes: f.bytes.slice() };
}
