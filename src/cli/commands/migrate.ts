/** `stillpoint migrate`: a running guest to another host, without its help or knowledge. */
import type { Command } from 'commander';
import type { Move } from '../../client/index.js';
import { Failure } from '../../protocol/failure.js';
import type { MoveOptions, MoveStats } from '../../protocol/moves.js';
import { DEFAULT_MOVE } from '../../protocol/moves.js';
import { decimal, MAX_TIMEOUT_S, oneOf, whole } from '../arguments.js';
import { printNote } from '../print-note.js';
import { progressLine } from '../table.js';
import { guarded, printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

interface Options extends VerbOptions {
  readonly maxDowntime: number;
  readonly maxRounds: number;
  readonly timeout: number;
  readonly onTimeout: 'cancel' | 'force';
  readonly bandwidth: number;
  readonly clock?: 'elapse' | 'freeze';
  readonly copyStorage?: boolean;
  readonly xen?: boolean;
}

/** Ctrl-C cancels the move; a second one leaves it to itself. */
function cancellable(move: Move, guest: string): Promise<MoveStats> {
  let presses = 0;
  return new Promise((resolve, reject) => {
    const pressed = (): void => {
      if (++presses > 1) {
        const words = `the move of ${guest} is left to itself in the background; "stillpoint list" says where it stands`;
        reject(new Failure('move-unsettled', words));
        return;
      }
      process.stderr.write('cancelling the move; Ctrl-C once more leaves it to itself in the background\n');
      move.cancel().catch((error: Error) => printNote(error.message));
    };
    process.on('SIGINT', pressed);
    move.done.then(resolve, reject).finally(() => process.off('SIGINT', pressed));
  });
}

async function showProgress({ progress }: Move): Promise<void> {
  for await (const step of progress) {
    const line = progressLine(step);
    process.stderr.write(process.stderr.isTTY ? `\r${line}\x1b[K\n` : `${line}\n`);
  }
}

/** More than half an hour. */
const MAX_DOWNTIME_MS = 2_147_483;
const MAX_ROUNDS = 1_000_000;
const MAX_BANDWIDTH_MBS = 1_000_000;
const ms = (value: number): string => `${value.toFixed(1)} ms`;

export function register(program: Command): void {
  verb(program, 'migrate <guest> <host>', 'move a running guest to another host (trusted name or HOST:PORT)')
    .option(
      '--max-downtime <ms>',
      'aim for a stop of at most this',
      decimal(0, MAX_DOWNTIME_MS),
      DEFAULT_MOVE.maxDowntimeMs,
    )
    .option(
      '--max-rounds <n>',
      'rounds of copying before the guest is stopped',
      whole(1, MAX_ROUNDS),
      DEFAULT_MOVE.maxRounds,
    )
    .option(
      '--timeout <s>',
      'time for copying while the guest runs',
      decimal(0, MAX_TIMEOUT_S),
      DEFAULT_MOVE.timeoutS,
    )
    .option(
      '--on-timeout <what>',
      'when rounds or time run out: cancel, or force a longer stop',
      oneOf('cancel', 'force'),
      DEFAULT_MOVE.onTimeout,
    )
    .option(
      '--bandwidth <MB/s>',
      'at most this while the guest runs; 0 for no limit',
      decimal(0, MAX_BANDWIDTH_MBS),
      0,
    )
    .option(
      '--clock <policy>',
      "elapse: the stop is stolen time for the guest; freeze: its clock stands still (the guest's own setting if not given)",
      oneOf('elapse', 'freeze'),
    )
    .option('--copy-storage', 'its disks go with it, as new files there; for hosts that share no storage')
    .option(
      '--xen',
      'of a helper domain of this Xen host, by its name or id; HOST is one that the helper trusts',
    )
    .action((guest: string, host: string, options: Options) => {
      const limits: MoveOptions = {
        maxDowntimeMs: options.maxDowntime,
        maxRounds: options.maxRounds,
        timeoutS: options.timeout,
        onTimeout: options.onTimeout,
        bandwidthMBs: options.bandwidth,
        clock: options.clock,
        copyStorage: options.copyStorage === true,
      };
      if (options.xen === true) return outOfXen(guest, host, limits, options);
      return withDaemon(options, async (client) => {
        const move = await client.migrate(guest, host, limits);
        const [stats] = await Promise.all([cancellable(move, guest), showProgress(move)]);
        if (options.json === true) {
          printJson(stats);
          return;
        }
        const { parts } = stats;
        if (stats.storageBytes > 0)
          printLine(`disks: ${(stats.storageBytes / 1e6).toFixed(1)} MB read and copied`);
        printLine(
          `${stats.name} lives on ${stats.destination} as domain ${stats.domid}: ${(stats.totalMs / 1000).toFixed(2)} s, ` +
            `${(stats.bytes / 1e6).toFixed(1)} MB, ${stats.mbPerSecond.toFixed(0)} MB/s, ${stats.rounds.length} rounds`,
        );
        printLine(
          `downtime ${ms(stats.downtimeMs)}: stop ${ms(parts.stopMs)}, last ${stats.lastPages} pages ${ms(parts.lastPagesMs)}, ` +
            `state ${ms(parts.stateMs)}, hand-over ${ms(parts.handoverMs)}, attach ${ms(parts.attachMs)}, ` +
            `owner record ${ms(parts.recordMs)}, first instruction ${ms(parts.firstInstructionMs)}`,
        );
      });
    });
}

/** The helper does it; dom0 asks by xenstore. Ctrl-C gives it up. */
function outOfXen(domain: string, to: string, options: MoveOptions, { json }: Options): Promise<void> {
  return guarded(json, async () => {
    if (options.copyStorage === true)
      throw new Failure('usage', 'the disks of a helper domain are given by dom0, and do not move');
    // No other verb needs it.
    const { leaveXen } = await import('../../appliance/leaving.js');
    const cancel = new AbortController();
    const pressed = (): void => cancel.abort();
    process.on('SIGINT', pressed);
    try {
      const left = await leaveXen(domain, { to, options }, { cancelled: cancel.signal });
      const { totalMs = 0, downtimeMs = 0 } = left;
      if (json === true) printJson(left);
      else
        printLine(
          `${domain} lives on ${left.to}: ${(totalMs / 1000).toFixed(2)} s, downtime ${ms(downtimeMs)}`,
        );
    } finally {
      process.off('SIGINT', pressed);
    }
  });
}
