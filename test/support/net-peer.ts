/**
 * A minimal machine on a network: it answers ARP for its address and echoes pings. It connects to a switch as QEMU's
 * `-netdev stream` does, with plain frames. (passt answers ARP for every address: beside it, a guest is given the
 * peer's address with `arp -s`.)
 */
import { createConnection, type Socket } from 'node:net';
import { internetChecksum } from './packets.js';

/** ff02::1 */
const ALL_NODES = Buffer.from('ff020000000000000000000000000001', 'hex');

function isAnnouncement(type: number, b: Buffer): boolean {
  if (type === 0x0806) return b.subarray(28, 32).equals(b.subarray(38, 42));
  return type === 0x86dd && b[20] === 58 && b[54] === 136 && b.subarray(38, 54).equals(ALL_NODES);
}

export class NetPeer {
  /** The number of frames that arrived, by EtherType. */
  readonly seen = new Map<number, number>();
  /** Echo requests by identifier and sequence number: one that comes twice was duplicated. */
  readonly echoes = new Map<string, number>();
  /** Gratuitous ARP and unsolicited neighbour advertisements to all nodes: an announcement that nobody asked for. */
  announcements = 0;
  private rest = Buffer.alloc(0);

  private constructor(
    private readonly socket: Socket,
    private readonly mac: Buffer,
    private readonly ip: Buffer,
  ) {
    socket.on('data', (chunk: Buffer) => this.take(chunk));
    socket.on('error', () => {});
    // It sends a frame first, so that the switch knows its address at once.
    this.send(Buffer.concat([Buffer.alloc(6, 0xff), mac, Buffer.from('88b5', 'hex'), Buffer.alloc(46)]));
  }

  static connect(path: string, mac: string, ip: string): Promise<NetPeer> {
    return new Promise((resolve, reject) => {
      const socket = createConnection({ path });
      socket.once('error', reject);
      socket.once('connect', () =>
        resolve(
          new NetPeer(
            socket,
            Buffer.from(mac.replaceAll(':', ''), 'hex'),
            Buffer.from(ip.split('.').map(Number)),
          ),
        ),
      );
    });
  }

  private take(chunk: Buffer): void {
    this.rest = Buffer.concat([this.rest, chunk]);
    while (this.rest.length >= 4 && this.rest.length >= 4 + this.rest.readUInt32BE(0)) {
      const length = this.rest.readUInt32BE(0);
      this.frame(Buffer.from(this.rest.subarray(4, 4 + length)));
      this.rest = this.rest.subarray(4 + length);
    }
  }

  private send(frame: Buffer): void {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(frame.length);
    this.socket.write(Buffer.concat([length, frame]));
  }

  private frame(b: Buffer): void {
    const type = b.readUInt16BE(12);
    this.seen.set(type, (this.seen.get(type) ?? 0) + 1);
    if (isAnnouncement(type, b)) this.announcements++;
    if (type === 0x0806 && b.readUInt16BE(20) === 1 && b.subarray(38, 42).equals(this.ip)) this.answerArp(b);
    else if (type === 0x0800 && b[23] === 1 && b.subarray(30, 34).equals(this.ip) && b[34] === 8)
      this.echo(b);
  }

  private answerArp(b: Buffer): void {
    const out = Buffer.from(b);
    b.copy(out, 0, 6, 12);
    this.mac.copy(out, 6);
    out.writeUInt16BE(2, 20);
    this.mac.copy(out, 22);
    this.ip.copy(out, 28);
    b.copy(out, 32, 22, 32);
    this.send(out);
  }

  private echo(b: Buffer): void {
    const key = `${b.readUInt16BE(38)} ${b.readUInt16BE(40)}`;
    this.echoes.set(key, (this.echoes.get(key) ?? 0) + 1);
    b.copy(b, 0, 6, 12);
    this.mac.copy(b, 6);
    const from = Buffer.from(b.subarray(26, 30));
    this.ip.copy(b, 26);
    from.copy(b, 30);
    b[34] = 0;
    b.writeUInt16BE(0, 36);
    const end = 14 + b.readUInt16BE(16);
    b.writeUInt16BE(internetChecksum([...b.subarray(34, end)]), 36);
    this.send(b);
  }

  close(): void {
    this.socket.destroy();
  }
}
