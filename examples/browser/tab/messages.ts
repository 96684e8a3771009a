/** What the worker tells the page. */
export type FromWorker =
  | { readonly console: string }
  /** How the guest ended, or what went wrong. */
  | { readonly ended: string };

/** What the page tells the worker: keys that were typed. */
export interface ToWorker {
  readonly type: string;
}
