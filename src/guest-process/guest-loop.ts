/** A guest on Node's event loop: what its domain says of a slice, in the loop's words, and how it ended. */
import type { Guest } from '../helper/guest.js';
import type { CrashReport } from '../hypervisor/crash-report.js';
import { GuestLoop } from './event-loop.js';

/** How a guest's power cycle ended of its own. */
export type GuestEnd =
  | { readonly kind: 'poweroff' | 'reboot' }
  | { readonly kind: 'crash'; readonly reason: string; readonly report: CrashReport };

/** The loop that runs `guest`; `ended` is told once, `failed` of an error of ours. Neither starts it. */
export function guestLoop(
  guest: Guest,
  ended: (end: GuestEnd) => void,
  failed: (error: unknown) => void,
): GuestLoop {
  const { domain } = guest;
  let end: GuestEnd;
  const loop = new GuestLoop(
    (limitNs) => {
      const result = guest.run(limitNs);
      switch (result.state) {
        case 'running':
          return result;
        case 'idle': {
          const { wakeAt } = result;
          const wakeInNs = wakeAt === undefined ? undefined : Math.max(0, wakeAt - domain.clock.now());
          return { state: 'idle', wakeInNs };
        }
        case 'shutdown':
          end =
            result.reason === 'poweroff' || result.reason === 'reboot'
              ? { kind: result.reason }
              : { kind: 'crash', reason: result.message ?? result.reason, report: domain.crashReport() };
          return { state: 'stopped' };
      }
    },
    () => ended(end),
    failed,
  );
  domain.backend.onNotify = () => loop.kick();
  return loop;
}
