/**
 * Connections of those of whom nothing is known yet: how many there may be, and for how long. Then those of known
 * peers are counted.
 *
 * Invariant: a stranger holds a descriptor for at most `greetingMs`, and strangers together `unknown` of them. Where
 * there are too many the oldest goes: who means to speak has spoken by then.
 */
import type { Socket } from 'node:net';

export interface DoorLimits {
  /** From its connection a peer has so long to prove who it is and to greet, ms. */
  readonly greetingMs: number;
  /** Connections that have not greeted: in all, and from one address (of IPv6: one network of 64 bits). */
  readonly unknown: number;
  readonly unknownPerAddress: number;
  /** Connections of peers that have: in all, and of one peer. */
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

/** What an address is counted under. */
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

/** A connection's name, the same for a socket and for the TLS socket upon it. */
const nameOf = (socket: Socket): string => `${socket.remoteAddress} ${socket.remotePort}`;

export class Doorkeeper {
  private readonly waiting = new Map<string, Waiting>();
  private readonly peers = new Map<string, number>();
  private inside = 0;

  constructor(private readonly limits: DoorLimits) {}

  /** How many wait, and how many are inside. */
  get counts(): { readonly unknown: number; readonly known: number } {
    return { unknown: this.waiting.size, known: this.inside };
  }

  /** A connection came. Others may be closed for it. */
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

  /** Nobody else is wanted: those who wait are turned away. */
  close(): void {
    for (const entry of [...this.waiting.values()]) this.turnAway(entry);
  }

  /** `peer` has greeted on this connection. False where it has too many: then it is to be closed. */
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
