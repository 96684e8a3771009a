/**
 * The client's side of the NBD protocol: fixed newstyle handshake and simple replies. Source: the protocol document
 * of the NBD project (doc/proto.md).
 */
import type { Duplex } from 'node:stream';

const NBDMAGIC = 0x4e42444d41474943n;
const IHAVEOPT = 0x49484156454f5054n;
const OPTION_REPLY_MAGIC = 0x0003e889045565a9n;
const NBD_FLAG_FIXED_NEWSTYLE = 1;
const NBD_FLAG_C_FIXED_NEWSTYLE = 1;
const NBD_FLAG_C_NO_ZEROES = 2;
const NBD_FLAG_NO_ZEROES = 2;
const NBD_OPT_EXPORT_NAME = 1;
const NBD_OPT_STARTTLS = 5;
const NBD_OPT_GO = 7;
const NBD_REP_ACK = 1;
const NBD_REP_INFO = 3;
const NBD_REP_FLAG_ERROR = 0x8000_0000;
const NBD_REP_ERR_UNSUP = 0x8000_0001;
/** How many zero bytes follow the answer to NBD_OPT_EXPORT_NAME, unless both sides agreed to leave them out. */
const RESERVED_BYTES = 124;
const NBD_INFO_EXPORT = 0;
const NBD_INFO_BLOCK_SIZE = 3;
/** The longest reply during the handshake, in bytes. A server that sends more does not follow the protocol. */
const MAX_OPTION_BYTES = 65_536;
/** The most bytes that a server may send before we have asked for them. */
const MAX_HELD_BYTES = 1 << 20;
const MAX_REPLIES = 1000;

export const NBD_REQUEST_MAGIC = 0x2560_9513;
export const NBD_SIMPLE_REPLY_MAGIC = 0x6744_6698;
export const REQUEST_BYTES = 28;
export const REPLY_BYTES = 16;

export const NBD_CMD_READ = 0;
export const NBD_CMD_WRITE = 1;
export const NBD_CMD_DISC = 2;
export const NBD_CMD_FLUSH = 3;
export const NBD_CMD_TRIM = 4;

export const NBD_FLAG_READ_ONLY = 2;
export const NBD_FLAG_SEND_FLUSH = 4;
export const NBD_FLAG_SEND_TRIM = 32;

/** What a server says about an export. */
export interface NbdExport {
  readonly bytes: number;
  /** The export's NBD_FLAG_* bits. */
  readonly flags: number;
  /** Smallest unit of offsets and lengths, in bytes. */
  readonly minimumBlock: number;
}

/** Takes exact numbers of bytes from a stream. `finish` gives the remaining ones back to the stream. */
class Taker {
  private held = Buffer.alloc(0);
  private failure: Error | undefined;
  private wake: () => void = () => undefined;

  constructor(private readonly stream: Duplex) {
    stream.on('data', this.onData);
    stream.on('error', this.onError);
    stream.on('end', this.onEnd);
    stream.on('close', this.onEnd);
    stream.resume();
  }
  private readonly onData = (chunk: Buffer): void => {
    this.held = Buffer.concat([this.held, chunk]);
    if (this.held.length > MAX_HELD_BYTES)
      this.onError(new Error('the server sends more than was asked for'));
    this.wake();
  };
  private readonly onError = (error: Error): void => {
    this.failure ??= error;
    this.wake();
  };
  private readonly onEnd = (): void => this.onError(new Error('the server closed the connection'));

  async take(bytes: number): Promise<Buffer> {
    while (this.held.length < bytes) {
      if (this.failure !== undefined) throw this.failure;
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
    const taken = this.held.subarray(0, bytes);
    this.held = this.held.subarray(bytes);
    return taken;
  }

  finish(): void {
    const { stream } = this;
    stream.pause();
    stream.off('data', this.onData);
    stream.off('end', this.onEnd);
    stream.off('close', this.onEnd);
    if (this.held.length > 0) stream.unshift(this.held);
  }
}

/** What the handshake is waiting for, in words for a message. */
interface HandshakeStep {
  at: string;
}

/**
 * Does the handshake. `secure`, if given, turns the stream into TLS. `step` is kept up to date, because a server may
 * never answer and the caller's time-out message then says what it did not send. Rejects with the reason.
 */
export async function handshake(
  plain: Duplex,
  exportName: string,
  secure: ((stream: Duplex) => Promise<Duplex>) | undefined,
  step: HandshakeStep = { at: '' },
): Promise<{ stream: Duplex; export: NbdExport }> {
  let stream = plain;
  let from = new Taker(stream);
  step.at = 'its greeting';
  const hello = await from.take(18);
  if (hello.readBigUInt64BE(0) !== NBDMAGIC || hello.readBigUInt64BE(8) !== IHAVEOPT)
    throw new Error('what answers is not an NBD server with the newstyle handshake');
  const server = hello.readUInt16BE(16);
  const fixed = (server & NBD_FLAG_FIXED_NEWSTYLE) !== 0;
  const noZeroes = (server & NBD_FLAG_NO_ZEROES) !== 0;
  if (secure !== undefined && !fixed)
    throw new Error('the server does not speak the fixed newstyle handshake, without which there is no TLS');
  const flags = Buffer.alloc(4);
  flags.writeUInt32BE((fixed ? NBD_FLAG_C_FIXED_NEWSTYLE : 0) | (noZeroes ? NBD_FLAG_C_NO_ZEROES : 0));
  stream.write(flags);
  if (secure !== undefined) {
    step.at = 'its answer to STARTTLS';
    sendOption(stream, NBD_OPT_STARTTLS, Buffer.alloc(0));
    const reply = await takeReply(from);
    if (reply.type !== NBD_REP_ACK) throw refused('TLS', reply);
    from.finish();
    step.at = 'TLS';
    stream = await secure(stream);
    from = new Taker(stream);
  }
  step.at = `its answer about export "${exportName}"`;
  // A server without the fixed handshake may close the connection at any option except NBD_OPT_EXPORT_NAME.
  const found =
    (fixed ? await go(stream, from, exportName) : undefined) ??
    (await byName(stream, from, exportName, noZeroes));
  check(found);
  from.finish();
  return { stream, export: found };
}

/** Asks for the export and its properties. Returns undefined if the server does not know this request. */
async function go(stream: Duplex, from: Taker, exportName: string): Promise<NbdExport | undefined> {
  const name = Buffer.from(exportName);
  const data = Buffer.alloc(4 + name.length + 4);
  data.writeUInt32BE(name.length);
  name.copy(data, 4);
  data.writeUInt16BE(1, 4 + name.length);
  data.writeUInt16BE(NBD_INFO_BLOCK_SIZE, 6 + name.length);
  sendOption(stream, NBD_OPT_GO, data);
  let bytes: number | undefined;
  let transmission = 0;
  let minimumBlock = 1;
  for (let replies = 0; ; replies++) {
    const reply = await takeReply(from);
    if (reply.type === NBD_REP_ACK) break;
    if (reply.type === NBD_REP_ERR_UNSUP) return undefined;
    if (reply.type !== NBD_REP_INFO) throw refused(`export "${exportName}"`, reply);
    if (replies === MAX_REPLIES) throw new Error('the server sends too many replies about the export');
    const kind = reply.data.length >= 2 ? reply.data.readUInt16BE(0) : -1;
    if (kind === NBD_INFO_EXPORT && reply.data.length === 12) {
      bytes = Number(reply.data.readBigUInt64BE(2));
      transmission = reply.data.readUInt16BE(10);
    } else if (kind === NBD_INFO_BLOCK_SIZE && reply.data.length === 14)
      minimumBlock = reply.data.readUInt32BE(2);
  }
  if (bytes === undefined) throw new Error('the server did not say how large the export is');
  return { bytes, flags: transmission, minimumBlock };
}

/** The older way: the server sends the size, or closes the connection. */
async function byName(
  stream: Duplex,
  from: Taker,
  exportName: string,
  noZeroes: boolean,
): Promise<NbdExport> {
  sendOption(stream, NBD_OPT_EXPORT_NAME, Buffer.from(exportName));
  let head: Buffer;
  try {
    head = await from.take(10);
  } catch (error) {
    throw new Error(
      `the server refuses export "${exportName}" without a reason (${(error as Error).message})`,
    );
  }
  if (!noZeroes) await from.take(RESERVED_BYTES);
  return { bytes: Number(head.readBigUInt64BE(0)), flags: head.readUInt16BE(8), minimumBlock: 1 };
}

/** Throws if the export is impossible or cannot be used. */
function check({ bytes, minimumBlock }: NbdExport): void {
  if (bytes === 0) throw new Error('the export is empty');
  if (!(bytes <= Number.MAX_SAFE_INTEGER))
    throw new Error(`the server says that the export has ${bytes} bytes`);
  if (minimumBlock === 0 || (minimumBlock & (minimumBlock - 1)) !== 0)
    throw new Error(`the server says that its smallest block is ${minimumBlock} bytes`);
}

function sendOption(stream: Duplex, option: number, data: Buffer): void {
  const head = Buffer.alloc(16);
  head.writeBigUInt64BE(IHAVEOPT, 0);
  head.writeUInt32BE(option, 8);
  head.writeUInt32BE(data.length, 12);
  stream.write(Buffer.concat([head, data]));
}

interface OptionReply {
  readonly type: number;
  readonly data: Buffer;
}

async function takeReply(from: Taker): Promise<OptionReply> {
  const head = await from.take(20);
  const length = head.readUInt32BE(16);
  if (head.readBigUInt64BE(0) !== OPTION_REPLY_MAGIC || length > MAX_OPTION_BYTES)
    throw new Error("the server's answer to an option is malformed");
  return { type: head.readUInt32BE(12), data: await from.take(length) };
}

function refused(what: string, { type, data }: OptionReply): Error {
  const says = (type & NBD_REP_FLAG_ERROR) !== 0 && data.length > 0 ? `: ${data.toString('utf8')}` : '';
  return new Error(`the server refuses ${what}${says}`);
}
