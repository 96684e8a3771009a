export const GUEST_ADDRESS: string;
export const GATEWAY: string;
export const SMALL_WINDOW: string;
export class Passt {
  readonly socket: string;
  stop(): void;
  /** Throws NoPackages where it cannot be had or does not run. */
  static start(): Promise<Passt>;
}
