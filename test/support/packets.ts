/** Frames for tests, composed by hand, with right checksums from a simple computation of their own. */

export const PEER = [0x02, 0, 0, 0, 0, 2];
export const GUEST = [0x00, 0x16, 0x3e, 0, 0, 1];

/** The Internet checksum, byte by byte. */
export function internetChecksum(bytes: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += (bytes[i] << 8) | (bytes[i + 1] ?? 0);
    if (sum > 0xffff) sum -= 0xffff;
  }
  return ~sum & 0xffff;
}
const be16 = (v: number): number[] => [(v >>> 8) & 255, v & 255];
const be32 = (v: number): number[] => [...be16(v >>> 16), ...be16(v & 0xffff)];

export interface Ends {
  readonly from?: readonly number[];
  readonly to?: readonly number[];
  readonly fromPort?: number;
  readonly toPort?: number;
}

const V4 = { from: [10, 0, 0, 1], to: [10, 0, 0, 2] };
const V6 = {
  from: [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
  to: [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
};

export const ethernet = (type: number, payload: readonly number[], to = PEER, from = GUEST): Uint8Array =>
  Uint8Array.from([...to, ...from, ...be16(type), ...payload]);

function ipv4(protocol: number, id: number, transport: readonly number[], ends: Ends): number[] {
  const head = [0x45, 0, ...be16(20 + transport.length), ...be16(id), 0x40, 0, 64, protocol, 0, 0];
  const whole = [...head, ...(ends.from ?? V4.from), ...(ends.to ?? V4.to)];
  whole.splice(10, 2, ...be16(internetChecksum(whole)));
  return [...whole, ...transport];
}
function ipv6(protocol: number, transport: readonly number[], ends: Ends): number[] {
  return [
    0x60,
    0,
    0,
    0,
    ...be16(transport.length),
    protocol,
    64,
    ...(ends.from ?? V6.from),
    ...(ends.to ?? V6.to),
    ...transport,
  ];
}
function withChecksum(
  version: 4 | 6,
  protocol: number,
  at: number,
  transport: number[],
  ends: Ends,
): number[] {
  const addresses = version === 4 ? V4 : V6;
  const pseudo = [
    ...(ends.from ?? addresses.from),
    ...(ends.to ?? addresses.to),
    ...be32(transport.length),
    ...be32(protocol),
  ];
  let sum = internetChecksum([...pseudo, ...transport]);
  if (sum === 0 && protocol === 17) sum = 0xffff;
  transport.splice(at, 2, ...be16(sum));
  return transport;
}

export interface TcpOptions extends Ends {
  readonly seq?: number;
  readonly flags?: number;
  readonly id?: number;
}

/** A whole TCP frame with right checksums, and 12 bytes of options like Linux's timestamps. */
export function tcp(version: 4 | 6, payload: Uint8Array, options: TcpOptions = {}): Uint8Array {
  const head = [
    ...be16(options.fromPort ?? 40_000),
    ...be16(options.toPort ?? 80),
    ...be32(options.seq ?? 1),
    ...be32(7),
    0x80,
    options.flags ?? 0x10,
    ...be16(502),
    ...[0, 0, 0, 0],
    ...[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
  ];
  const transport = withChecksum(version, 6, 16, [...head, ...payload], options);
  return version === 4
    ? ethernet(0x0800, ipv4(6, options.id ?? 100, transport, options))
    : ethernet(0x86dd, ipv6(6, transport, options));
}

export function udp(version: 4 | 6, payload: Uint8Array, options: Ends = {}): Uint8Array {
  const head = [
    ...be16(options.fromPort ?? 5000),
    ...be16(options.toPort ?? 53),
    ...be16(8 + payload.length),
    0,
    0,
  ];
  const transport = withChecksum(version, 17, 6, [...head, ...payload], options);
  return version === 4
    ? ethernet(0x0800, ipv4(17, 1, transport, options))
    : ethernet(0x86dd, ipv6(17, transport, options));
}

/** The frame with its transport checksum replaced by what a sender with checksum offload leaves there. */
export function blank(frame: Uint8Array, offset: number): Uint8Array {
  const out = frame.slice();
  out[offset] = 0xde;
  out[offset + 1] = 0xad;
  return out;
}

export const pattern = (bytes: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length: bytes }, (_, i) => (i * 7 + seed * 31 + (i >>> 8)) & 255);
