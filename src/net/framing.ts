/**
 * Frames on a stream, as QEMU's `-netdev stream` and passt send them: the length in 4 bytes, big-endian, then the
 * frame. Our switch also has a form of its own, with 10 bytes of virtio-net header before each frame, which count
 * towards the length. Source: QEMU, net/stream.c; passt, tap.c; virtio 1.2, 5.1.6.
 */
import * as v from 'valibot';
import { parseJson } from '../protocol/json.js';
import { type Frame, GSO_NONE, MAX_FRAME_BYTES, MIN_GSO_BYTES, NEEDS_CSUM, plainFrame } from './frame.js';
import { setU32be, u32be } from './headers.js';

/** The stream broke the protocol, so nothing after this point can be decoded. */
export class FramingError extends Error {}

const LENGTH_BYTES = 4;
export const VNET_HEADER_BYTES = 10;
/**
 * The first bytes, in both directions, of a connection to our switch on which frames have virtio-net headers. A plain
 * stream never begins with them, because as a length they would be far too large.
 */
export const OFFLOAD_HELLO = Uint8Array.from('SPNET01\n', (c) => c.charCodeAt(0));

/** The same, but a claim follows first: its length in 2 bytes, big-endian, and then JSON. */
export const CLAIM_HELLO = Uint8Array.from('SPNET02\n', (c) => c.charCodeAt(0));
/** The largest size of a claim's JSON, in bytes. */
export const MAX_CLAIM_BYTES = 4096;

/** The addresses of the interface behind a link, and a secret that is the same on every host. */
export interface LinkClaim {
  readonly mac: string;
  /** The IP addresses that it may use. If the list is empty, it may use any. */
  readonly ips: readonly string[];
  readonly token: string;
}

/** The first bytes that a link with a claim sends. */
export function claimHello(claim: LinkClaim): Uint8Array {
  const json = new TextEncoder().encode(JSON.stringify(claim));
  const hello = new Uint8Array(CLAIM_HELLO.length + 2 + json.length);
  hello.set(CLAIM_HELLO);
  hello[CLAIM_HELLO.length] = json.length >>> 8;
  hello[CLAIM_HELLO.length + 1] = json.length;
  hello.set(json, CLAIM_HELLO.length + 2);
  return hello;
}

const claimShape = v.object({
  mac: v.pipe(v.string(), v.regex(/^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/)),
  ips: v.array(v.string()),
  token: v.string(),
});

/** Parses and checks a claim. Throws FramingError. */
export function readClaim(json: Uint8Array): LinkClaim {
  let claim: unknown;
  try {
    claim = parseJson(new TextDecoder('utf-8', { fatal: true }).decode(json));
  } catch {
    throw new FramingError('the claim is not JSON');
  }
  if (!v.is(claimShape, claim)) throw new FramingError('the claim lacks a valid mac, ips or token');
  const { mac, ips, token } = claim;
  return { mac, ips, token };
}

/** How many bytes a frame takes on a stream. */
export const framedBytes = (f: Frame, offloads: boolean): number =>
  LENGTH_BYTES + (offloads ? VNET_HEADER_BYTES : 0) + f.bytes.length;

/** Writes a frame at `at` and returns the offset after it. */
export function writeFramed(out: Uint8Array, at: number, f: Frame, offloads: boolean): number {
  setU32be(out, at, f.bytes.length + (offloads ? VNET_HEADER_BYTES : 0));
  let to = at + LENGTH_BYTES;
  if (offloads) to = writeVnetHeader(out, to, f);
  out.set(f.bytes, to);
  return to + f.bytes.length;
}

/** Writes the header in little-endian order. The field `hdr_len` is only a hint and stays 0. */
export function writeVnetHeader(out: Uint8Array, at: number, f: Frame): number {
  out[at] = f.flags;
  out[at + 1] = f.gsoType;
  out[at + 2] = 0;
  out[at + 3] = 0;
  out[at + 4] = f.gsoSize;
  out[at + 5] = f.gsoSize >>> 8;
  out[at + 6] = f.csumStart;
  out[at + 7] = f.csumStart >>> 8;
  out[at + 8] = f.csumOffset;
  out[at + 9] = f.csumOffset >>> 8;
  return at + VNET_HEADER_BYTES;
}

/**
 * Reads the header at `at` into `f`, whose bytes are already set. Returns false if the header is impossible for the
 * frame.
 */
export function readVnetHeader(b: Uint8Array, at: number, f: Frame): boolean {
  f.flags = b[at] & 3;
  f.gsoType = b[at + 1] & 0x7f;
  f.gsoSize = b[at + 4] | (b[at + 5] << 8);
  f.csumStart = b[at + 6] | (b[at + 7] << 8);
  f.csumOffset = b[at + 8] | (b[at + 9] << 8);
  if (f.flags & NEEDS_CSUM && f.csumStart + f.csumOffset + 2 > f.bytes.length) return false;
  return f.gsoType === GSO_NONE || (f.gsoSize >= MIN_GSO_BYTES && (f.flags & NEEDS_CSUM) !== 0);
}

const HEADER = LENGTH_BYTES + VNET_HEADER_BYTES;

/** Splits a stream into frames. The frame that `emit` gets is valid during the call only. */
export class FrameDecoder {
  /** A frame with its length, of which only a part has arrived so far. */
  private partial: Uint8Array = new Uint8Array(2048);
  private have = 0;
  private readonly frame = plainFrame(this.partial);

  constructor(
    private readonly offloads: boolean,
    private readonly emit: (f: Frame) => void,
  ) {}

  /** Takes the next piece of the stream. Throws FramingError. */
  push(chunk: Uint8Array): void {
    let at = 0;
    if (this.have > 0) {
      at = this.complete(chunk);
      if (this.have > 0) return;
    }
    while (chunk.length - at >= LENGTH_BYTES) {
      const length = this.check(u32be(chunk, at));
      if (chunk.length - at - LENGTH_BYTES < length) break;
      this.give(chunk.subarray(at + LENGTH_BYTES, at + LENGTH_BYTES + length));
      at += LENGTH_BYTES + length;
    }
    this.keep(chunk.subarray(at));
  }

  private check(length: number): number {
    if (length > MAX_FRAME_BYTES + HEADER) throw new FramingError(`a frame of ${length} bytes`);
    return length;
  }

  private keep(rest: Uint8Array): void {
    const need = this.have + rest.length;
    if (need > this.partial.length) {
      const grown = new Uint8Array(Math.max(need, MAX_FRAME_BYTES + HEADER));
      grown.set(this.partial.subarray(0, this.have));
      this.partial = grown;
    }
    this.partial.set(rest, this.have);
    this.have = need;
  }

  /** Continues the partial frame. Returns how many bytes of `chunk` it took. */
  private complete(chunk: Uint8Array): number {
    let at = 0;
    if (this.have < LENGTH_BYTES) {
      at = Math.min(LENGTH_BYTES - this.have, chunk.length);
      this.keep(chunk.subarray(0, at));
      if (this.have < LENGTH_BYTES) return at;
    }
    const whole = LENGTH_BYTES + this.check(u32be(this.partial, 0));
    const taken = Math.min(whole - this.have, chunk.length - at);
    this.keep(chunk.subarray(at, at + taken));
    if (this.have === whole) {
      this.have = 0;
      this.give(this.partial.subarray(LENGTH_BYTES, whole));
    }
    return at + taken;
  }

  private give(bytes: Uint8Array): void {
    const { frame } = this;
    if (this.offloads) {
      if (bytes.length < VNET_HEADER_BYTES)
        throw new FramingError('a frame is too short for its virtio-net header');
      frame.bytes = bytes.subarray(VNET_HEADER_BYTES);
      if (!readVnetHeader(bytes, 0, frame))
        throw new FramingError('a virtio-net header does not fit its frame');
    } else {
      frame.bytes = bytes;
      frame.flags = 0;
      frame.gsoType = GSO_NONE;
    }
    if (frame.bytes.length >= 14 && frame.bytes.length <= MAX_FRAME_BYTES) this.emit(frame);
  }
}
