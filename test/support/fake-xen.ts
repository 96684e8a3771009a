/**
 * Xen hosts without Xen: for each a xenstore with the nodes that libxl and the helper's kernel would have written, and
 * in front of them a socket that behaves as /dev/xen/xenbus of a domain that is moved from one host to another. Beside
 * it the files of /sys, /proc and /dev that a helper domain reads.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { deviceTree } from '../../src/guest/device-tree.js';
import { domainTree, hostTree, type TreeNode } from '../../src/guest/domain-tree.js';
import { XS_UNWATCH, XS_WATCH, XS_WATCH_EVENT } from '../../src/xen/xs-wire.js';
import { XenstoreServer } from '../../src/xenstore/server/server.js';
import { SocketServer } from '../../src/xenstore/socket/socket-server.js';
import { encodeMessage, type Message } from '../../src/xenstore/wire/message.js';
import { MessageParser } from '../../src/xenstore/wire/parser.js';

export const UUID = '6d5fa2b1-3e31-4c6a-9d0f-1b2c3d4e5f60';
const CONNECTED = 4;
const CLOSING = 5;

/** What one host gives to the helper's domain. */
export interface Place {
  readonly domid: number;
  readonly xenVersion: string;
  readonly tscMhz: string;
  readonly memoryKib: number;
  readonly storePort: number;
  readonly ringRef: number;
  readonly eventChannel: number;
}

export const PLACE_A: Place = {
  domid: 5,
  xenVersion: '4.17.5',
  tscMhz: '2400.000',
  memoryKib: 400 * 1024,
  storePort: 1,
  ringRef: 8,
  eventChannel: 15,
};
export const PLACE_B: Place = {
  domid: 9,
  xenVersion: '4.19.1',
  tscMhz: '3100.000',
  memoryKib: 400 * 1024,
  storePort: 3,
  ringRef: 771,
  eventChannel: 22,
};

export interface OuterVbd {
  readonly kind: 'vbd';
  readonly devid: number;
}
export interface OuterVif {
  readonly kind: 'vif';
  readonly devid: number;
  readonly mac: string;
}

/** One host: its xenstore, with the helper's domain in it. */
class FakeXenHost {
  readonly server = new XenstoreServer();
  readonly dom0 = this.server.local(0);
  socket: SocketServer | undefined;
  private ofDom0: SocketServer | undefined;

  constructor(
    readonly place: Place,
    readonly path: string,
  ) {
    const { domid, memoryKib, storePort } = place;
    this.put(hostTree());
    this.put(
      domainTree({
        domid,
        name: 'helper',
        uuid: UUID,
        vcpus: 2,
        onlineVcpus: 2,
        staticMaxKib: memoryKib,
        targetKib: memoryKib,
        storePort,
        storeRingRef: 0xfeffc,
        consolePort: storePort + 1,
        consoleRingRef: 0xfefff,
        consoleTty: '/dev/pts/3',
        kernel: 'vmlinuz',
        ramdisk: 'initrd',
        cmdline: '',
        startTime: '1.00',
      }),
    );
  }

  async listen(): Promise<void> {
    this.socket = await SocketServer.listen(this.server, this.path, { domid: this.place.domid });
    this.ofDom0 = await SocketServer.listen(this.server, `${this.path}.dom0`);
  }

  async close(): Promise<void> {
    await this.socket?.close();
    await this.ofDom0?.close();
  }

  private put(nodes: readonly TreeNode[]): void {
    for (const { path, value, perms } of nodes) {
      this.dom0.write(path, value);
      this.dom0.setPermissions(path, perms);
    }
    this.server.settle();
  }

  /** A device whose front end in the helper's kernel has connected. */
  addDevice(device: OuterVbd | OuterVif, connected = true): void {
    const { domid, ringRef, eventChannel } = this.place;
    const front: Record<string, string | number> =
      device.kind === 'vbd'
        ? { 'virtual-device': device.devid, 'ring-ref': ringRef, 'event-channel': eventChannel }
        : {
            mac: device.mac,
            'tx-ring-ref': ringRef + 1,
            'rx-ring-ref': ringRef + 2,
            'event-channel': eventChannel + 1,
          };
    this.put(deviceTree({ kind: device.kind, devid: device.devid, domid, front, back: {} }));
    if (connected) this.setState(device, CONNECTED);
  }

  setState({ kind, devid }: OuterVbd | OuterVif, state: number): void {
    const { domid } = this.place;
    this.write(`/local/domain/0/backend/${kind}/${domid}/${devid}/state`, String(state));
    this.write(`/local/domain/${domid}/device/${kind}/${devid}/state`, String(state));
  }

  removeDevice({ kind, devid }: OuterVbd | OuterVif): void {
    this.setState({ kind, devid } as OuterVbd, CLOSING);
    this.dom0.remove(`/local/domain/${this.place.domid}/device/${kind}/${devid}`);
    this.dom0.remove(`/local/domain/0/backend/${kind}/${this.place.domid}/${devid}`);
    this.server.settle();
  }

  /** As dom0 does it. */
  write(path: string, value: string): void {
    this.dom0.write(path, value);
    this.server.settle();
  }

  /** A node below the helper's home, as dom0 reads it. */
  read(path: string): string | undefined {
    return this.dom0.tryRead(`/local/domain/${this.place.domid}/${path}`);
  }
}

/** The requests of the kernel itself, whose answers nobody gets. */
const KERNELS = 0xfffffffe;

export class FakeXen {
  /** Where the helper finds things: src/host/xen/places.ts. */
  readonly places;
  host: FakeXenHost;
  private readonly listener: Server;
  private client: Socket | undefined;
  private upstream: Socket | undefined;
  /** The client's watches, path and token, as its kernel keeps them. */
  private readonly watches = new Map<string, Message>();
  private waiting = 0;
  private idle: (() => void) | undefined;
  private held: Message[] | undefined;
  private hosts = 0;

  private constructor(
    readonly directory: string,
    place: Place,
  ) {
    const at = (name: string): string => join(directory, name);
    this.places = { xenbus: at('xenbus'), sys: at('sys'), proc: at('proc'), dev: at('dev') };
    this.host = this.makeHost(place);
    this.listener = createServer((socket) => void this.accept(socket));
  }

  /** `directory` is empty and the test's own. */
  static async start(
    directory: string,
    devices: readonly (OuterVbd | OuterVif)[] = [],
    place = PLACE_A,
  ): Promise<FakeXen> {
    const xen = new FakeXen(directory, place);
    mkdirSync(xen.places.dev, { recursive: true });
    for (const device of devices) xen.host.addDevice(device);
    await xen.host.listen();
    xen.writeFacts();
    await new Promise<void>((resolve) => xen.listener.listen(xen.places.xenbus, resolve));
    return xen;
  }

  /** The socket of the present host's xenstored, for dom0's tools. */
  get dom0Socket(): string {
    return `${this.host.path}.dom0`;
  }

  private makeHost(place: Place): FakeXenHost {
    return new FakeXenHost(place, join(this.directory, `xenstored${++this.hosts}`));
  }

  private writeFacts(): void {
    const { xenVersion, tscMhz } = this.host.place;
    const [major, minor, extra] = /^(\d+)\.(\d+)(.*)$/.exec(xenVersion)!.slice(1);
    const { sys, proc } = this.places;
    const files: Record<string, string> = {
      [`${sys}/hypervisor/version/major`]: major,
      [`${sys}/hypervisor/version/minor`]: minor,
      [`${sys}/hypervisor/version/extra`]: extra,
      [`${sys}/hypervisor/properties/capabilities`]: 'hvm-3.0-x86_64',
      [`${sys}/hypervisor/uuid`]: UUID,
      [`${sys}/devices/system/clocksource/clocksource0/current_clocksource`]: 'xen',
      [`${proc}/meminfo`]: 'MemTotal:     400000 kB\nMemAvailable:    9000 kB',
      [`${proc}/cpuinfo`]: `processor\t: 0\nmodel name\t: CPU of ${xenVersion}\nflags\t\t: tsc constant_tsc ssse3 sse4_1\ncpu MHz\t\t: ${tscMhz}\n`,
    };
    for (const [file, text] of Object.entries(files)) {
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, `${text}\n`);
    }
  }

  /** As the kernel shows an interface with this address. */
  addInterface(name: string, mac: string): void {
    const directory = join(this.places.sys, 'class/net', name);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, 'address'), `${mac}\n`);
    writeFileSync(join(directory, 'ifindex'), '7\n');
  }

  /**
   * The helper is moved: what it asked is answered here, what it asks meanwhile there. Its watches are set again
   * there, so they fire.
   */
  async migrate(place: Place, devices: readonly (OuterVbd | OuterVif)[] = []): Promise<void> {
    this.held = [];
    if (this.waiting > 0) await new Promise<void>((resolve) => (this.idle = resolve));
    const old = this.host;
    this.upstream?.removeAllListeners();
    this.upstream?.destroy();
    this.upstream = undefined;
    this.host = this.makeHost(place);
    for (const device of devices) this.host.addDevice(device, false);
    await this.host.listen();
    this.writeFacts();
    await old.close();
    if (this.client !== undefined) {
      this.upstream = await this.dial();
      for (const { body } of this.watches.values())
        this.upstream.write(encodeMessage({ type: XS_WATCH, reqId: KERNELS, txId: 0, body }));
    }
    const held = this.held;
    this.held = undefined;
    for (const message of held) this.pass(message);
    // The front ends connect a little later.
    for (const device of devices) this.host.setState(device, CONNECTED);
  }

  private async accept(client: Socket): Promise<void> {
    this.client = client;
    client.on('error', () => undefined);
    const parser = new MessageParser();
    this.held ??= [];
    client.on('data', (chunk) => messages(parser, chunk, (message) => this.pass(message)));
    client.on('close', () => this.upstream?.destroy());
    this.upstream = await this.dial();
    const { held } = this;
    this.held = undefined;
    for (const message of held) this.pass(message);
  }

  private pass(message: Message): void {
    if (this.held !== undefined) {
      this.held.push(message);
      return;
    }
    if (message.type === XS_WATCH) this.watches.set(message.body, message);
    if (message.type === XS_UNWATCH) this.watches.delete(message.body);
    this.waiting++;
    this.upstream?.write(encodeMessage(message));
  }

  private dial(): Promise<Socket> {
    return new Promise((resolve) => {
      const upstream = connect(this.host.path, () => resolve(upstream));
      const parser = new MessageParser();
      upstream.on('error', () => undefined);
      upstream.on('data', (chunk) =>
        messages(parser, chunk, (message) => {
          if (message.reqId === KERNELS) return;
          this.client?.write(encodeMessage(message));
          if (message.type === XS_WATCH_EVENT || --this.waiting > 0) return;
          this.idle?.();
          this.idle = undefined;
        }),
      );
    });
  }

  async stop(): Promise<void> {
    this.client?.destroy();
    this.upstream?.destroy();
    await new Promise<void>((resolve) => this.listener.close(() => resolve()));
    await this.host.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function messages(parser: MessageParser, chunk: Uint8Array, take: (message: Message) => void): void {
  for (let at = 0; at < chunk.length; ) {
    const state = parser.push(chunk, at, chunk.length);
    at = parser.consumed;
    if (state.kind === 'message') take(state.message);
    else if (state.kind === 'failed') throw new Error('a message that is too long');
  }
}
