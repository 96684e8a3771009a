/**
 * Limits connections from strangers: how many there may be, and for how long. It also counts the connections of known
 * peers.
 *
 * Invariant: a stranger holds a file descriptor for at most `greetingMs`, and all strangers together hold at most
 * `unknown`. If there are too many, the oldest is closed: a genuine peer would have greeted by then.
 */
import type { Socket } from 'node:net';

export interface DoorLimits {
  /** How long a peer has after connecting to prove its identity and to greet, in ms. */
  readonly greetingMs: number;
  /** Limits of connections that have not greeted: in total, and from one address (IPv6: from one /64 network). */
  readonly unknown: number;
  readonly unknownPerAddress: number;
  /** Limits of connections that have greeted: in total, and of one peer. */
  readonly known: number;
  readonly knownPerPeer: number;
}

export const DOOR_LIMITS: Omit<DoorLimits, 'greetingMs'> = {
  unknown: 128,
  unknownPerAddress: 16,
  known: 512,
  knownPerPeer: 64,
};

interface Waiting {
  readonly name: string;
  readonly socket: Socket;
  readonly from: string;
  readonly timer: NodeJS.Timeout;
}

/** The key under which an address is counted. */
export function addressKey(address: string | undefined): string {
  if (address === undefined) return '';
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '');
  if (!plain.includes(':')) return plain;
  const [left, right] = plain.split('::');
  const groups = left.split(':').filter((g) => g !== '');
  const rest = right === undefined ? [] : right.split(':').filter((g) => g !== '');
  while (groups.length + rest.length < 8) groups.push('0');
  return `${[...groups, ...rest].slice(0, 4).join(':')}::/64`;
}

/** Identifies a connection. It is the same for a socket and for the TLS socket on top of it. */
const nameOf = (socket: Socket): string => `${socket.remoteAddress} ${socket.remotePort}`;

export class Doorkeeper {
  private readonly waiting = new Map<string, Waiting>();
  private readonly peers = new Map<string, number>();
  private inside = 0;

  constructor(private readonly limits: DoorLimits) {}

  /** How many connections have not greeted yet, and how many have. */
  get counts(): { readonly unknown: number; readonly known: number } {
    return { unknown: this.waiting.size, known: this.inside };
  }

  /** To be called for a new connection. Others may be closed to make room for it. */
  admit(socket: Socket): void {
    const name = nameOf(socket);
    const from = addressKey(socket.remoteAddress);
    const { unknown, unknownPerAddress, greetingMs } = this.limits;
    const same = [...this.waiting.values()].filter((w) => w.from === from);
    if (same.length >= unknownPerAddress) this.turnAway(same[0]);
    else if (this.waiting.size >= unknown) this.turnAway(this.waiting.values().next().value!);
    const timer = setTimeout(() => this.turnAway(entry), greetingMs);
    const entry: Waiting = { name, socket, from, timer };
    this.waiting.set(name, entry);
    socket.once('close', () => {
      clearTimeout(timer);
      if (this.waiting.get(name) === entry) this.waiting.delete(name);
    });
  }

  private turnAway({ name, socket, timer }: Waiting): void {
    clearTimeout(timer);
    this.waiting.delete(name);
    socket.destroy();
  }

  /** No further connection is wanted: closes all that have not greeted yet. */
  close(): void {
    for (const entry of [...this.waiting.values()]) this.turnAway(entry);
  }

  /**
   * To be called when `peer` has greeted on this connection. Returns false if the peer has too many; the connection
   * is then to be closed.
   */
  known(socket: Socket, peer: string): boolean {
    const entry = this.waiting.get(nameOf(socket));
    if (entry === undefined) return false;
    const count = this.peers.get(peer) ?? 0;
    if (count >= this.limits.knownPerPeer || this.inside >= this.limits.known) return false;
    clearTimeout(entry.timer);
    this.waiting.delete(nameOf(socket));
    this.peers.set(peer, count + 1);
    this.inside++;
    socket.once('close', () => {
      this.inside--;
      const left = (this.peers.get(peer) ?? 1) - 1;
      if (left === 0) this.peers.delete(peer);
      else this.peers.set(peer, left);
    });
    return true;
  }
}
