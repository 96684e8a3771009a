/**
 * The ring protocol of the split drivers (`io/ring.h`): one or several shared pages with four indices and a number of
 * slots that is a power of two. A response is written into the slot of a request that was consumed.
 *
 * Invariant: the private indices of an end are never read back from the shared page, whatever the other end writes
 * there. Indices are free-running 32-bit numbers; only their differences and their low bits have a meaning.
 */
import type { LinearMemory } from './memory.js';
import { struct } from './struct.js';

/** The head of a shared ring. The slots begin at `sizeof`. */
export const Sring = struct('stillpoint_sring', 64, {
  req_prod: [0, 'u32'],
  req_event: [4, 'u32'],
  rsp_prod: [8, 'u32'],
  rsp_event: [12, 'u32'],
});

/** The number of slots in a ring of `ringBytes` bytes: the largest power of two that fits. */
export function ringSlots(ringBytes: number, slotBytes: number): number {
  return 1 << (31 - Math.clz32(Math.floor((ringBytes - Sring.sizeof) / slotBytes)));
}

const PAGE = 4096;

/** One end of a ring: where its pages are in linear memory, and the end's two private indices. */
export interface RingEnd {
  /** The linear address of every page of the ring, in order. The pages need not be adjacent. */
  pages: readonly number[];
  slotBytes: number;
  slots: number;
}
export interface BackRing extends RingEnd {
  req_cons: number;
  rsp_prod_pvt: number;
}
export interface FrontRing extends RingEnd {
  req_prod_pvt: number;
  rsp_cons: number;
}

function end(pages: readonly number[], slotBytes: number): RingEnd {
  return { pages, slotBytes, slots: ringSlots(pages.length * PAGE, slotBytes) };
}

/** Makes a back end that starts at the index of the front end's last response, as BACK_RING_ATTACH does. */
export function attachBackRing(mem: LinearMemory, pages: readonly number[], slotBytes: number): BackRing {
  const at = mem.getU32(pages[0] + Sring.rsp_prod);
  return { ...end(pages, slotBytes), req_cons: at, rsp_prod_pvt: at };
}

/** Makes a front end with a new ring, as SHARED_RING_INIT and FRONT_RING_INIT do. */
export function initFrontRing(mem: LinearMemory, pages: readonly number[], slotBytes: number): FrontRing {
  mem.bytes(pages[0], Sring.sizeof).fill(0);
  mem.setU32(pages[0] + Sring.req_event, 1);
  mem.setU32(pages[0] + Sring.rsp_event, 1);
  return { ...end(pages, slotBytes), req_prod_pvt: 0, rsp_cons: 0 };
}

/** Copies a slot out of the ring, because the other end may still change it. */
export function readSlot(mem: LinearMemory, ring: RingEnd, index: number, into: Uint8Array): void {
  eachPart(ring, index, into.length, (at, done, length) => {
    into.set(mem.bytes(at, length), done);
  });
}

/** Copies bytes into a slot. */
export function writeSlot(mem: LinearMemory, ring: RingEnd, index: number, from: Uint8Array): void {
  eachPart(ring, index, from.length, (at, done, length) => {
    mem.bytes(at, length).set(from.subarray(done, done + length));
  });
}

/** The linear address of a slot, for rings of one page or slots that do not cross a page boundary. */
export function slotAddress(ring: RingEnd, index: number): number {
  const offset = Sring.sizeof + (index & (ring.slots - 1)) * ring.slotBytes;
  return ring.pages[Math.floor(offset / PAGE)] + (offset % PAGE);
}

function eachPart(
  ring: RingEnd,
  index: number,
  bytes: number,
  copy: (at: number, done: number, length: number) => void,
): void {
  if (bytes > ring.slotBytes) throw new RangeError(`${bytes} bytes for a ring slot of ${ring.slotBytes}`);
  const start = Sring.sizeof + (index & (ring.slots - 1)) * ring.slotBytes;
  for (let done = 0; done < bytes; ) {
    const offset = start + done;
    const length = Math.min(bytes - done, PAGE - (offset % PAGE));
    copy(ring.pages[Math.floor(offset / PAGE)] + (offset % PAGE), done, length);
    done += length;
  }
}

/**
 * Whether the front end claims more requests than a ring can hold. If so it is broken and must not be served any
 * more.
 */
export function requestProducerOverflows(mem: LinearMemory, ring: BackRing): boolean {
  const produced = mem.getU32(ring.pages[0] + Sring.req_prod);
  return (produced - ring.rsp_prod_pvt) >>> 0 > ring.slots;
}

/** How many requests are not consumed yet, but at most the number of slots without an unsent response. */
export function unconsumedRequests(mem: LinearMemory, ring: BackRing): number {
  const waiting = (mem.getU32(ring.pages[0] + Sring.req_prod) - ring.req_cons) >>> 0;
  const room = ring.slots - ((ring.req_cons - ring.rsp_prod_pvt) >>> 0);
  return Math.min(waiting, room);
}

/** How many responses are not consumed yet. */
export function unconsumedResponses(mem: LinearMemory, ring: FrontRing): number {
  return (mem.getU32(ring.pages[0] + Sring.rsp_prod) - ring.rsp_cons) >>> 0;
}

/** How many requests a front end may still put into the ring. */
export function freeRequests(ring: FrontRing): number {
  return ring.slots - ((ring.req_prod_pvt - ring.rsp_cons) >>> 0);
}

/** Publishes the responses up to rsp_prod_pvt. Returns true if the front end asked to be notified of one of them. */
export function pushResponses(mem: LinearMemory, ring: BackRing): boolean {
  return push(mem, ring.pages[0] + Sring.rsp_prod, ring.pages[0] + Sring.rsp_event, ring.rsp_prod_pvt);
}

/** Publishes the requests up to req_prod_pvt. Returns true if the back end asked to be notified of one of them. */
export function pushRequests(mem: LinearMemory, ring: FrontRing): boolean {
  return push(mem, ring.pages[0] + Sring.req_prod, ring.pages[0] + Sring.req_event, ring.req_prod_pvt);
}

function push(mem: LinearMemory, producer: number, event: number, now: number): boolean {
  const before = mem.getU32(producer);
  mem.setU32(producer, now);
  return (now - mem.getU32(event)) >>> 0 < (now - before) >>> 0;
}

/**
 * To be called before waiting: asks for a notification of the next request and looks once more. Returns true if there
 * is work.
 */
export function finalCheckForRequests(mem: LinearMemory, ring: BackRing): boolean {
  if (unconsumedRequests(mem, ring) > 0) return true;
  mem.setU32(ring.pages[0] + Sring.req_event, ring.req_cons + 1);
  return unconsumedRequests(mem, ring) > 0;
}

/** Does the same for a front end and its responses. */
export function finalCheckForResponses(mem: LinearMemory, ring: FrontRing): boolean {
  if (unconsumedResponses(mem, ring) > 0) return true;
  mem.setU32(ring.pages[0] + Sring.rsp_event, ring.rsp_cons + 1);
  return unconsumedResponses(mem, ring) > 0;
}
