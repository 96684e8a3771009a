/** A minimal NBD server that answers as slowly as it is told to, or not at all. */
import net from 'node:net';

const NBDMAGIC_IHAVEOPT = '4e42444d4147494349484156454f5054';
const OPTION_REPLY_MAGIC = 0x0003e889045565a9n;
const SIMPLE_REPLY_MAGIC = 0x67446698;
const OPT_GO = 7;
const REP_ACK = 1;
const REP_INFO = 3;
const CMD_READ = 0;
const CMD_WRITE = 1;
const CMD_DISC = 2;
/** Flags of the export: they are valid, and the server supports flush. */
const HAS_FLAGS_AND_FLUSH = 5;
const REQUEST_BYTES = 28;
/** The client's flags, and NBD_OPT_GO for the export without a name, with a request for one piece of information. */
const HANDSHAKE_BYTES = 4 + 16 + 8;

export class SilentNbd {
  /** If true, everything is sent, handshakes included; otherwise it is held back. */
  answering = true;
  /** The number of requests that arrived. */
  requests = 0;
  port = 0;
  private readonly server = net.createServer((socket) => this.serve(socket));
  private readonly sockets = new Set<net.Socket>();
  private readonly held: (() => void)[] = [];

  constructor(readonly bytes = 1 << 20) {}

  get listening(): boolean {
    return this.server.listening;
  }
  async listen(port = 0): Promise<number> {
    await new Promise<void>((done) => this.server.listen(port, '127.0.0.1', done));
    this.port = (this.server.address() as net.AddressInfo).port;
    return this.port;
  }
  /** Ends all connections and accepts no more. */
  async close(): Promise<void> {
    const closed = new Promise((done) => this.server.close(done));
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }
  /** Sends everything that was held back, and continues normally. */
  answer(): void {
    this.answering = true;
    for (const one of this.held.splice(0)) one();
  }
  private say(what: () => void): void {
    if (this.answering) what();
    else this.held.push(what);
  }

  private serve(socket: net.Socket): void {
    let got = Buffer.alloc(0);
    let shaken = false;
    this.sockets.add(socket);
    socket.on('close', () => this.sockets.delete(socket));
    socket.on('error', () => undefined);
    this.say(() => socket.write(Buffer.from(`${NBDMAGIC_IHAVEOPT}0001`, 'hex')));
    socket.on('data', (chunk) => {
      got = Buffer.concat([got, chunk]);
      if (!shaken) {
        if (got.length < HANDSHAKE_BYTES) return;
        got = got.subarray(HANDSHAKE_BYTES);
        shaken = true;
        this.say(() => socket.write(Buffer.concat([this.info(), optionReply(REP_ACK, Buffer.alloc(0))])));
      }
      while (got.length >= REQUEST_BYTES) {
        const [type, length] = [got.readUInt16BE(6), got.readUInt32BE(24)];
        const all = REQUEST_BYTES + (type === CMD_WRITE ? length : 0);
        if (got.length < all) return;
        const reply = Buffer.alloc(16 + (type === CMD_READ ? length : 0));
        reply.writeUInt32BE(SIMPLE_REPLY_MAGIC, 0);
        got.copy(reply, 8, 8, 16);
        got = got.subarray(all);
        if (type === CMD_DISC) {
          this.say(() => socket.end());
          return;
        }
        this.requests++;
        this.say(() => socket.write(reply));
      }
    });
  }

  private info(): Buffer {
    const data = Buffer.alloc(12);
    data.writeBigUInt64BE(BigInt(this.bytes), 2);
    data.writeUInt16BE(HAS_FLAGS_AND_FLUSH, 10);
    return optionReply(REP_INFO, data);
  }
}

function optionReply(type: number, data: Buffer): Buffer {
  const head = Buffer.alloc(20);
  head.writeBigUInt64BE(OPTION_REPLY_MAGIC, 0);
  head.writeUInt32BE(OPT_GO, 8);
  head.writeUInt32BE(type, 12);
  head.writeUInt32BE(data.length, 16);
  return Buffer.concat([head, data]);
}
