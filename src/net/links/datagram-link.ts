/** A link over UDP with one frame per datagram, as QEMU's `-netdev dgram` does it. Frames that do not fit are lost. */
import { createSocket, type Socket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import type { Frame } from '../frame.js';
import { plainFrame } from '../frame.js';
import type { LinkClient, NetLink } from '../link.js';
import type { Endpoint } from './address.js';

/** The largest UDP payload over IPv4. */
const MAX_DATAGRAM_BYTES = 65_507;
/** How many bytes may wait in the socket before the guest's transmission is held back. */
const LIMIT_BYTES = 262_144;
/** A shorter frame has no complete Ethernet header. */
const MIN_BYTES = 14;

export class DatagramLink implements NetLink {
  readonly offloads = false;
  readonly up = true;
  readonly name: string;
  private reading = true;
  private waiting = 0;
  private blocked = false;

  private constructor(
    private readonly socket: Socket,
    private readonly remote: Endpoint,
    local: Endpoint,
    private readonly client: LinkClient,
  ) {
    this.name = `dgram:${local.host}:${local.port}/${remote.host}:${remote.port}`;
    socket.on('message', (bytes) => this.take(bytes));
  }

  static open(
    local: Endpoint,
    remote: Endpoint,
    client: LinkClient,
    log: (line: string) => void,
  ): Promise<DatagramLink> {
    return new Promise((resolve, reject) => {
      const socket = createSocket({ type: isIPv6(local.host) ? 'udp6' : 'udp4' });
      socket.once('error', (error) =>
        reject(new Error(`network link ${local.host}:${local.port}: ${error.message}`)),
      );
      socket.bind(local.port, local.host, () => {
        socket.removeAllListeners('error');
        socket.on('error', (error) => log(`network link: ${error.message}`));
        resolve(new DatagramLink(socket, remote, local, client));
      });
    });
  }

  private take(bytes: Uint8Array): void {
    if (!this.reading || bytes.length < MIN_BYTES) return;
    this.client.receive(plainFrame(bytes));
    this.client.received();
  }

  get writable(): boolean {
    if (this.waiting < LIMIT_BYTES) return true;
    this.blocked = true;
    return false;
  }
  send(frame: Frame): void {
    const { length } = frame.bytes;
    if (length > MAX_DATAGRAM_BYTES) return;
    this.waiting += length;
    this.socket.send(frame.bytes.slice(), this.remote.port, this.remote.host, () => {
      this.waiting -= length;
      if (!this.blocked || this.waiting > LIMIT_BYTES / 2) return;
      this.blocked = false;
      this.client.drained();
    });
  }
  flush(): void {}
  /** Datagrams cannot be held back. Those that arrive while reading is off are lost. */
  setReading(on: boolean): void {
    this.reading = on;
  }
  close(): Promise<void> {
    return new Promise((resolve) => this.socket.close(() => resolve()));
  }
}
