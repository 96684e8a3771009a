/**
 * The destination's part of a move, and of `restore`: it turns the bytes of a stream into a complete guest that has
 * not run. Invariant: whatever the bytes are, the result is either a guest all of whose parts were checked, or none.
 */
import { RecordError } from '../records/fields.js';
import { CodePreparation } from './code-preparation.js';
import type { DiskTaker } from './disk-sender.js';
import type { GuestFactory, IncomingGuest } from './moving-guest.js';
import { StreamReader } from './stream-reader.js';
import type { StreamHead } from './stream-writer.js';

interface ReceiveHooks {
  /** Gets the head of the stream, and throws to refuse it. */
  head?(head: StreamHead): void;
  round?(round: number, pages: number): void;
  readonly disks?: DiskTaker;
  /** Takes the records in DESC or STAT; returns the guest's own. */
  own?(records: Uint8Array): Uint8Array;
  /** The stream comes from a file, so the time of its arrival says nothing about when the guest was stopped. */
  readonly fromFile?: boolean;
}

interface Received<G extends IncomingGuest> {
  readonly guest: G;
  readonly head: StreamHead;
  readonly bytes: number;
  readonly stateMs: number;
}

/** Reads a whole stream. Throws RecordError with the offset of the error; in that case no container is left. */
export async function receiveGuest<G extends IncomingGuest>(
  chunks: AsyncIterable<Uint8Array>,
  factory: GuestFactory<G>,
  hooks: ReceiveHooks = {},
): Promise<Received<G>> {
  let guest: G | undefined;
  let head: StreamHead | undefined;
  let stateMs = 0;
  let headAt = 0;
  let stoppedAt: number | undefined;
  let preparing: CodePreparation | undefined;
  const reader = new StreamReader({
    head(found) {
      hooks.head?.(found);
      head = found;
      headAt = performance.now();
    },
    async container(description) {
      try {
        guest = await factory.construct(hooks.own?.(description) ?? description);
      } catch (error) {
        throw refused(error, reader.offset);
      }
      return guest;
    },
    round(round, pages) {
      if (round === 0) stoppedAt = performance.now();
      hooks.round?.(round, pages);
    },
    disks: hooks.disks,
    code(starts) {
      preparing?.stop();
      preparing = new CodePreparation(guest!, starts);
    },
    written: (frame) => guest!.written?.(frame),
    state(records) {
      preparing?.stop();
      const started = performance.now();
      const least = (started - (stoppedAt ?? started)) * 1e6;
      const bounds = hooks.fromFile === true ? undefined : { least, most: (started - headAt) * 1e6 };
      try {
        guest!.restoreState(hooks.own?.(records) ?? records, bounds);
      } catch (error) {
        throw refused(error, reader.offset);
      }
      stateMs = performance.now() - started;
    },
  });
  try {
    for await (const chunk of chunks) {
      await reader.push(chunk);
      if (reader.complete) break;
    }
    reader.finish();
    return { guest: guest!, head: head!, bytes: reader.offset, stateMs };
  } catch (error) {
    preparing?.stop();
    await guest?.discard();
    throw error;
  }
}

/** Contents that a part refuses make a bad record, whatever error the part throws. */
function refused(error: unknown, offset: number): Error {
  if (error instanceof RecordError) return error;
  return new RecordError(offset, `what the record says cannot be: ${(error as Error).message}`);
}
