/**
 * A link over a stream socket: to our switch, where frames keep their offloads, or to QEMU's `-netdev stream` or
 * passt, where frames have none. If the far end goes away, the link reconnects; meanwhile frames are lost, as with an
 * unplugged cable.
 */
import { connect, type Socket } from 'node:net';
import type { Frame } from '../frame.js';
import { CLAIM_HELLO, claimHello, type LinkClaim, OFFLOAD_HELLO } from '../framing.js';
import type { LinkClient, NetLink } from '../link.js';
import { formatSocketAddress, type SocketAddress } from './address.js';
import { FrameStream } from './frame-stream.js';

/** How many bytes may wait in the socket before the guest's transmission is held back. */
const LIMIT_BYTES = 262_144;
const HELLO_TIMEOUT_MS = 5_000;
const CLOSE_TIMEOUT_MS = 500;
/** Times between attempts to connect, in ms. The last one is repeated for ever. */
const RETRY_MS = [20, 50, 100, 200, 500, 1000];

export class StreamLink implements NetLink {
  readonly name: string;
  private stream: FrameStream | undefined;
  private socket: Socket | undefined;
  private retry: NodeJS.Timeout | undefined;
  private tries = 0;
  private reading = true;
  private open = true;
  private lastTrouble = '';

  private constructor(
    private readonly to: SocketAddress,
    readonly offloads: boolean,
    private readonly client: LinkClient,
    private readonly log: (line: string) => void,
    private readonly claim: LinkClaim | undefined,
  ) {
    this.name = `${offloads ? 'switch' : 'stream'}:${formatSocketAddress(to)}`;
  }

  /** Connects. `claim` is what a switch of ours is told. Rejects if the far end cannot be reached now. */
  static async connect(
    to: SocketAddress,
    offloads: boolean,
    client: LinkClient,
    log: (line: string) => void,
    claim?: LinkClaim,
  ): Promise<StreamLink> {
    const link = new StreamLink(to, offloads, client, log, claim);
    await link.attempt();
    return link;
  }

  get up(): boolean {
    return this.stream !== undefined;
  }
  get writable(): boolean {
    return this.stream?.writable ?? true;
  }
  send(frame: Frame): void {
    this.stream?.send(frame);
  }
  flush(): void {
    this.stream?.flush();
  }
  setReading(on: boolean): void {
    if (this.reading === on) return;
    this.reading = on;
    this.stream?.setReading(on);
  }

  async close(): Promise<void> {
    this.open = false;
    clearTimeout(this.retry);
    const { stream } = this;
    this.stream = undefined;
    if (stream === undefined) this.socket?.destroy();
    else await stream.close(CLOSE_TIMEOUT_MS);
  }

  private attempt(): Promise<void> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.to);
      this.socket = socket;
      const timer = setTimeout(() => failed('no answer'), HELLO_TIMEOUT_MS);
      const failed = (why: string): void => {
        clearTimeout(timer);
        socket.removeAllListeners();
        socket.on('error', () => {});
        socket.destroy();
        reject(new Error(`network link ${this.name}: ${why}`));
      };
      const ready = (rest: Uint8Array): void => {
        clearTimeout(timer);
        socket.removeAllListeners();
        this.connected(socket, rest);
        resolve();
      };
      socket.on('error', (error) => failed(error.message));
      socket.on('close', () => failed('the far end closed the connection'));
      if (!this.offloads) {
        socket.on('connect', () => ready(new Uint8Array(0)));
        return;
      }
      let got = Buffer.alloc(0);
      const { claim } = this;
      const answer = claim === undefined ? OFFLOAD_HELLO : CLAIM_HELLO;
      socket.on('connect', () => socket.write(claim === undefined ? OFFLOAD_HELLO : claimHello(claim)));
      socket.on('data', (chunk: Buffer) => {
        got = Buffer.concat([got, chunk]);
        const hello = got.subarray(0, answer.length);
        if (hello.compare(answer.subarray(0, hello.length)) !== 0)
          failed('the far end is not a Stillpoint switch');
        else if (hello.length === answer.length) ready(got.subarray(hello.length));
      });
    });
  }

  private connected(socket: Socket, rest: Uint8Array): void {
    if (!this.open) {
      socket.destroy();
      return;
    }
    const stream = new FrameStream(socket, this.offloads, LIMIT_BYTES, {
      receive: (frame) => this.client.receive(frame),
      received: () => this.client.received(),
      drained: () => this.client.drained(),
      closed: (why) => this.lost(why),
    });
    this.stream = stream;
    this.tries = 0;
    if (this.lastTrouble !== '') this.log(`network link ${this.name}: connected again`);
    this.lastTrouble = '';
    if (rest.length > 0) stream.take(rest);
    stream.setReading(this.reading);
    this.client.linkChanged(true);
  }

  private lost(why: string): void {
    this.stream = undefined;
    if (!this.open) return;
    this.trouble(why === '' ? 'the far end closed the connection' : why);
    this.client.linkChanged(false);
    // Whatever held the guest back is gone.
    this.client.drained();
    this.again();
  }

  private again(): void {
    const ms = RETRY_MS[Math.min(this.tries++, RETRY_MS.length - 1)];
    this.retry = setTimeout(() => {
      this.attempt().catch((error: Error) => {
        this.trouble(error.message);
        if (this.open) this.again();
      });
    }, ms);
  }

  /** Logs each kind of trouble once. */
  private trouble(text: string): void {
    if (text === this.lastTrouble) return;
    this.lastTrouble = text;
    this.log(text.startsWith('network link') ? text : `network link ${this.name}: ${text}`);
  }
}
