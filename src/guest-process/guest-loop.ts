/**
 * Connects a guest to the event loop: translates the result of a slice into the loop's terms, and reports how the
 * guest ended.
 */
import { SHUTDOWN_HAND_OVER } from '../guest/boot-loader.js';
import type { GuestImage } from '../guest/builder.js';
import { KernelError } from '../guest/kernel-error.js';
import type { Guest } from '../helper/guest.js';
import { handedOver } from '../helper/hand-over.js';
import type { CrashReport } from '../hypervisor/crash-report.js';
import { GuestLoop } from './event-loop.js';

/** How a guest ended by itself. */
export type GuestEnd = {
  /** Why the domain was shut down, as SCHEDOP_shutdown has it. */
  readonly code: number;
} & (
  | { readonly kind: 'poweroff' | 'reboot' }
  /** Its boot loader has loaded what is to be started in its place. */
  | { readonly kind: 'handed-over'; readonly image: GuestImage }
  | { readonly kind: 'crash'; readonly reason: string; readonly report: CrashReport }
);

/**
 * The loop that runs `guest`. It calls `ended` once when the guest ends, and `failed` for an error of our own. The
 * caller starts it. `bootLoader`: the guest was switched on with a boot loader, which may hand a kernel over.
 */
export function guestLoop(
  guest: Guest,
  ended: (end: GuestEnd) => void,
  failed: (error: unknown) => void,
  bootLoader = false,
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
          if (bootLoader && result.code === SHUTDOWN_HAND_OVER) {
            end = handOver(guest, result.code);
            return { state: 'stopped' };
          }
          end =
            result.reason === 'poweroff' || result.reason === 'reboot'
              ? { kind: result.reason, code: result.code }
              : {
                  kind: 'crash',
                  code: result.code,
                  reason: result.message ?? result.reason,
                  report: domain.crashReport(),
                };
          return { state: 'stopped' };
      }
    },
    () => ended(end),
    failed,
  );
  domain.backend.onNotify = () => loop.kick();
  return loop;
}

function handOver({ domain }: Guest, code: number): GuestEnd {
  try {
    return { kind: 'handed-over', code, image: handedOver(domain) };
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return { kind: 'crash', code, reason: error.message, report: domain.crashReport() };
  }
}
