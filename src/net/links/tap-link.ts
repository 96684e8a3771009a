/**
 * A link to a tap device of the kernel, on a bridge or alone. Checksums and segmentation are left to the kernel or
 * the guest (offloads, in virtio-net headers). Opening a tap device needs ioctl, which Node does not have, so koffi
 * calls it. koffi is an optional package; hosts without tap devices do not need it. Source: Linux,
 * Documentation/networking/tuntap.rst, include/uapi/linux/if_tun.h.
 */

import { execFile } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { type Frame, MAX_FRAME_BYTES, plainFrame } from '../frame.js';
import { readVnetHeader, VNET_HEADER_BYTES, writeVnetHeader } from '../framing.js';
import type { LinkClient, NetLink } from '../link.js';

const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
/** TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6: checksums, and TCP segmentation over IPv4 and IPv6. */
const TUN_F = 0x01 | 0x02 | 0x04;
const IFNAMSIZ = 16;
const POLLIN = 1;
/** The longest wait in the kernel, in ms. Closing the link can take this long. */
const POLL_MS = 200;
/** How many frames are taken before other work gets its turn. */
const BATCH = 256;

interface Libc {
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  ioctlValue(fd: number, request: number, value: number): number;
  poll(fds: Uint8Array, done: (error: unknown, ready: number) => void): void;
  read(fd: number, into: Uint8Array, bytes: number): number;
  write(fd: number, from: Uint8Array, bytes: number): number;
}

async function loadLibc(): Promise<Libc> {
  let koffi: typeof import('koffi');
  try {
    // Types: koffi's declarations are of the module, not of its default export.
    koffi = (await import('koffi')).default as unknown as typeof import('koffi');
  } catch {
    throw new Error('tap devices need the package koffi, which is not installed (npm install koffi)');
  }
  const lib = koffi.load('libc.so.6');
  const poll = lib.func('int poll(void *fds, unsigned long count, int timeout)');
  return {
    ioctl: lib.func('int ioctl(int fd, unsigned long request, void *argument)'),
    ioctlValue: lib.func('ioctl', 'int', ['int', 'unsigned long', 'unsigned long']),
    poll: (fds, done) => poll.async(fds, 1, POLL_MS, done),
    read: lib.func('long read(int fd, void *into, size_t bytes)'),
    write: lib.func('long write(int fd, const void *from, size_t bytes)'),
  };
}

const run = promisify(execFile);

/** Opens the device and makes it if it does not exist. With `bridge:` it makes a new one and adds it to the bridge. */
export async function openTap(
  address: { readonly kind: 'tap' | 'bridge'; readonly name: string },
  client: LinkClient,
): Promise<NetLink> {
  const libc = await loadLibc();
  const wanted = address.kind === 'tap' ? address.name : 'sp%d';

  let fd: number;
  try {
    fd = openSync('/dev/net/tun', constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    throw new Error(`network link ${address.kind}:${address.name}: ${(error as Error).message}`);
  }
  try {
    const request = new Uint8Array(40);
    request.set(new TextEncoder().encode(wanted).subarray(0, IFNAMSIZ - 1));
    new DataView(request.buffer).setUint16(IFNAMSIZ, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, true);
    if (libc.ioctl(fd, TUNSETIFF, request) !== 0)
      throw new Error(`device ${wanted} cannot be opened: it needs root, or a tap prepared for this user`);
    const name = new TextDecoder().decode(request.subarray(0, request.indexOf(0)));
    const offloads = libc.ioctlValue(fd, TUNSETOFFLOAD, TUN_F) === 0;
    if (!offloads) throw new Error(`device ${name} takes no offloads`);
    if (address.kind === 'bridge') await run('ip', ['link', 'set', name, 'master', address.name, 'up']);
    else if (
      readFileSync(`/sys/class/net/${name}/flags`, 'latin1')
        .trim()
        .slice(-1)
        .match(/[02468ace]/i)
    )
      await run('ip', ['link', 'set', name, 'up']);
    return new TapLink(fd, name, libc, client);
  } catch (error) {
    closeSync(fd);
    throw new Error(`network link ${address.kind}:${address.name}: ${(error as Error).message}`);
  }
}

/** Opens the character device of a macvtap interface, which is up. `name`: the interface below it. */
export async function openMacvtap(device: string, name: string, client: LinkClient): Promise<NetLink> {
  const libc = await loadLibc();
  const fd = openSync(device, constants.O_RDWR | constants.O_NONBLOCK);
  const request = new Uint8Array(40);
  new DataView(request.buffer).setUint16(IFNAMSIZ, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, true);
  if (libc.ioctl(fd, TUNSETIFF, request) !== 0 || libc.ioctlValue(fd, TUNSETOFFLOAD, TUN_F) !== 0) {
    closeSync(fd);
    throw new Error(`device ${device} takes no offloads`);
  }
  return new TapLink(fd, name, libc, client);
}

class TapLink implements NetLink {
  readonly offloads = true;
  readonly writable = true;
  readonly up = true;
  readonly name: string;
  private reading = true;
  private open = true;
  private polling: Promise<void> | undefined;
  private readonly pollFd = new Uint8Array(8);
  private readonly into = new Uint8Array(VNET_HEADER_BYTES + MAX_FRAME_BYTES);
  private readonly out = new Uint8Array(VNET_HEADER_BYTES + MAX_FRAME_BYTES);
  private readonly frame = plainFrame(this.into);

  constructor(
    private readonly fd: number,
    name: string,
    private readonly libc: Libc,
    private readonly client: LinkClient,
  ) {
    this.name = `tap:${name}`;
    const view = new DataView(this.pollFd.buffer);
    view.setInt32(0, fd, true);
    view.setInt16(4, POLLIN, true);
    this.wait();
  }

  private wait(): void {
    if (this.polling !== undefined || !this.open || !this.reading) return;
    this.polling = new Promise((resolve) => {
      this.libc.poll(this.pollFd, (_error, ready) => {
        this.polling = undefined;
        resolve();
        if (!this.open || !this.reading) return;
        if (ready > 0) this.take();
        this.wait();
      });
    });
  }

  private take(): void {
    for (let i = 0; i < BATCH && this.reading; i++) {
      const bytes = this.libc.read(this.fd, this.into, this.into.length);
      if (bytes < VNET_HEADER_BYTES) break;
      this.frame.bytes = this.into.subarray(VNET_HEADER_BYTES, bytes);
      if (readVnetHeader(this.into, 0, this.frame)) this.client.receive(this.frame);
    }
    this.client.received();
  }

  /** The kernel takes a frame or drops it, so there is nothing to wait for. */
  send(frame: Frame): void {
    if (!this.open) return;
    const at = writeVnetHeader(this.out, 0, frame);
    this.out.set(frame.bytes, at);
    this.libc.write(this.fd, this.out, at + frame.bytes.length);
  }
  flush(): void {}
  setReading(on: boolean): void {
    this.reading = on;
    this.wait();
  }
  async close(): Promise<void> {
    this.open = false;
    await this.polling;
    closeSync(this.fd);
  }
}
