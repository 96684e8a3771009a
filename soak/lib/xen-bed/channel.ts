// One channel to the bed's dom0: a virtio-serial port, which QEMU shows as a unix socket. One request at a time; what is
// asked and answered is told in dom0/agent.sh.
import { randomBytes } from 'node:crypto';
import net from 'node:net';

/** How a command ended in dom0. */
export interface Ended {
  /** Its exit status; 124 if it was ended at its time limit; 128 and the signal's number if a signal ended it. */
  readonly status: number;
  /** All that it printed, on both of its outputs. */
  readonly output: Buffer;
}

/** So much longer than a command's own limit is its answer waited for, seconds. */
const GRACE_S = 30;
const MAX_LINE = 256;
/** Bytes that one command may print. */
const MAX_OUTPUT = 256 << 20;

export class Channel {
  private held: Buffer[] = [];
  private heldBytes = 0;
  private wake = (): void => {};
  private gone = false;
  private requests = 0;

  private constructor(private readonly socket: net.Socket) {
    socket.on('data', (bytes) => {
      this.held.push(bytes);
      this.heldBytes += bytes.length;
      this.wake();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.gone = true;
      this.wake();
    });
  }

  /** Connects, and waits until dom0's agent answers: an error after `seconds`. */
  static async open(path: string, seconds: number): Promise<Channel> {
    const end = Date.now() + seconds * 1000;
    const socket = await new Promise<net.Socket>((done, fail) => {
      const one = net.connect({ path }, () => done(one));
      one.once('error', fail);
    });
    const channel = new Channel(socket);
    const nonce = randomBytes(8).toString('hex');
    socket.write(`sync ${nonce}\n`);
    try {
      while ((await channel.line(end)) !== `sync ${nonce}`);
    } catch (error) {
      socket.destroy();
      throw error;
    }
    return channel;
  }

  close(): void {
    this.socket.destroy();
  }

  /** Runs `script` by bash in dom0; ended after `seconds` with all that it started. */
  async run(script: string, seconds: number, input: Uint8Array = new Uint8Array()): Promise<Ended> {
    const id = `${++this.requests}`;
    const end = Date.now() + (seconds + GRACE_S) * 1000;
    const words = Buffer.from(script).toString('base64');
    this.socket.write(`run ${id} ${seconds} ${input.length} ${words}\n`);
    if (input.length > 0) this.socket.write(input);
    for (;;) {
      const [word, answered, status, bytes] = (await this.line(end)).split(' ');
      if (word !== 'done' || answered !== id) continue;
      if (!(Number(bytes) <= MAX_OUTPUT)) throw new Error(`the bed: a command has printed ${bytes} bytes`);
      return { status: Number(status), output: await this.take(Number(bytes), end) };
    }
  }

  private async line(end: number): Promise<string> {
    for (;;) {
      const all = Buffer.concat(this.held);
      const at = all.indexOf(10);
      if (at >= 0) return (await this.take(at + 1, end)).toString('latin1').trimEnd();
      if (all.length > MAX_LINE) throw new Error('the bed: dom0 sends what is no line');
      await this.more(end);
    }
  }

  private async take(bytes: number, end: number): Promise<Buffer> {
    while (this.heldBytes < bytes) await this.more(end);
    const all = Buffer.concat(this.held);
    this.held = [all.subarray(bytes)];
    this.heldBytes = all.length - bytes;
    return all.subarray(0, bytes);
  }

  private async more(end: number): Promise<void> {
    if (this.gone) throw new Error('the bed is gone: its channel was closed');
    const left = end - Date.now();
    if (left <= 0) throw new Error('the bed: dom0 has not answered in time');
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((done) => {
      this.wake = done;
      timer = setTimeout(done, left);
    });
    clearTimeout(timer);
  }
}
