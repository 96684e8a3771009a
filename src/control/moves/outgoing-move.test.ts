import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { systemChance, systemClock } from '../../os/clock.js';
import { DEFAULT_MOVE } from '../../protocol/moves.js';
import type { Rpc, RpcHandlers } from '../../protocol/rpc.js';
import type { HostedDomain } from '../domains/hosted-domain.js';
import { OutgoingMove } from './outgoing-move.js';

const started = { attachMs: 1, recordMs: 1, startMs: 1 };

/** A destination that answers everything at once, and a guest process whose last answer comes late. */
function moveWithLateAnswer(
  drop = async (): Promise<void> => undefined,
  done: string[] = [],
  broken?: { data: string; reason: string },
) {
  let handlers: RpcHandlers = {};
  const tell = (message: string, reason?: string): void =>
    handlers.notice?.('move', { handover: 'h', message, domid: 9, started, reason });
  const answers: Record<string, string> = { offer: 'accepted', forget: 'forgotten' };
  const rpc = {
    request: async (method: string) => (method === 'clock' ? 0 : { version: 1, port: 1, host: '' }),
    notice: (_: string, params: { message: string }) => {
      const answer = answers[params.message];
      if (answer !== undefined) setImmediate(() => tell(answer));
    },
    close: () => undefined,
    destroy: () => undefined,
  } as unknown as Rpc;
  const domain = {
    state: { name: 'guest', uuid: 'u', vcpus: 1, memoryKib: 1024 },
    ask: async (method: string) => {
      if (method === 'send' && broken !== undefined) {
        setTimeout(() => tell('refused', broken.reason), 20);
        throw new Error(broken.data);
      }
      if (method === 'send') {
        await move.stopping();
        tell('ready');
        await new Promise((done) => setTimeout(done, 20));
        return { rounds: [], bytes: 1, stopMs: 1, lastPagesMs: 1, lastPages: 1, reason: 'downtime' };
      }
      return { paused: false };
    },
  } as unknown as HostedDomain;
  const move: OutgoingMove = new OutgoingMove(
    {
      log: pino({ level: 'silent' }),
      clock: systemClock,
      chance: systemChance,
      answerMs: 1000,
      connect: async (_, given) => {
        handlers = given;
        return rpc;
      },
      wallClock: () => 0,
      travelling: async () => [],
      defined: () => undefined,
      undefine: () => undefined,
      persist: () => undefined,
      erase: () => void done.push('erase'),
      resume: async () => undefined,
      drop,
      retire: () => undefined,
      finished: () => undefined,
    },
    domain,
    { handover: 'h', domid: 1, uuid: 'u', peer: { name: 'B', host: 'b', port: 1 } },
  );
  return move;
}

describe('a move whose destination has everything before the source knows that all was sent', () => {
  it('is handed over at once', async () => {
    const move = moveWithLateAnswer();
    const stats = await move.run(DEFAULT_MOVE, true);
    expect(stats).toMatchObject({ domid: 9, destination: 'B' });
    expect(move.phase === 'gone' || move.phase === 'done').toBe(true);
  });
});

describe('a move whose guest is gone', () => {
  it('forgets the hand-over only after everything of the guest is gone from this host', async () => {
    const done: string[] = [];
    let attempts = 0;
    const move = moveWithLateAnswer(async () => {
      done.push('drop');
      if (++attempts < 2) throw new Error('ENOSPC');
    }, done);
    await move.run(DEFAULT_MOVE, true);
    for (let i = 0; i < 1000 && move.phase !== 'done'; i++) await new Promise((turn) => setTimeout(turn, 5));
    expect(done).toEqual(['drop', 'drop', 'erase']);
  });
});

describe('a move whose guest ran again because its process had lost the daemon', () => {
  it.each([true, false])(
    'is not offered to the destination, even if the process has died since (alive: %s)',
    async (alive) => {
      const done: string[] = [];
      const move = moveWithLateAnswer(undefined, done);
      Object.assign(move.domain!, {
        alive,
        livedOn: true,
        rpc: undefined,
        diesSoon: async () => true,
        ask: (
          (ask) => (method: string) =>
            method === 'lock' ? Promise.reject(new Error('no process')) : ask(method as never, {} as never)
        )(move.domain!.ask),
      });
      await expect(move.run(DEFAULT_MOVE, true)).rejects.toThrow('the guest here cannot be locked');
      expect(done).toEqual(['erase']);
      expect(move.phase).toBe('idle');
    },
  );
});

describe('a move whose destination stops taking data', () => {
  it('fails with the message of the destination, although that arrives after the connection has ended', async () => {
    const data = 'the data connection failed: read ECONNRESET';
    const move = moveWithLateAnswer(undefined, [], {
      data,
      reason: 'the disk that comes cannot be kept here: ENOSPC',
    });
    await expect(move.run(DEFAULT_MOVE, true)).rejects.toThrow(
      'the destination refused: the disk that comes cannot be kept here: ENOSPC; the guest goes on here',
    );
  });
});
