/** How a domain ends, and what of it the code works on that ends it. */

/** Why the domain stopped: SHUTDOWN_* of public/sched.h. */
export interface Shutdown {
  readonly code: number;
  /** For a crash that Xen caused: what the guest has done. */
  readonly message?: string;
  /** The vCPU that caused it. */
  readonly vcpu: number;
}

export interface ShutdownState {
  /** Set once. The domain never runs again unless a suspend is cancelled. */
  readonly shutdown: Shutdown | undefined;
  /** The code that was set in advance with SCHEDOP_shutdown_code, or -1. */
  shutdownCode: number;
  /** Ends the domain with a code SHUTDOWN_*. The first reason is kept. */
  stop(code: number, message?: string): void;
  /** Ends the domain as Xen does if it broke the rules. The first reason is kept. */
  crash(message: string): void;
}
