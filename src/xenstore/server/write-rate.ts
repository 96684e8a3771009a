/**
 * How fast a domain may change the store: without a limit one domain that writes without pause makes every
 * transaction of all others fail. A domain that has used up its credit is not read from until it has some again;
 * nothing it has sent is lost. Privileged domains are not limited.
 * Source: the intent of "write rate limiting" in tools/xenstored/domain.c of Xen; its sharing of unused credit
 * between domains is left out.
 */

/** xenstored 4.17's: WRL_RATE and WRL_BURST. */
export const WRITES_PER_SECOND = 200;
export const WRITE_BURST = 10;

export interface WriteRateOptions {
  readonly perSecond: number;
  /** Changes that may come at once. */
  readonly burst: number;
  /** Milliseconds of a clock that does not go backwards. */
  now(): number;
  /** Runs `action` so many milliseconds from now. */
  after(ms: number, action: () => void): void;
}

interface Credit {
  /** Changes that may be made at `at`. Below 0 after a burst. */
  left: number;
  at: number;
  /** Somebody will be told when there is credit again. */
  waiting: boolean;
}

export class WriteRate {
  private readonly byDomid = new Map<number, Credit>();

  constructor(
    private readonly options: WriteRateOptions,
    /** Told that a domain that was stopped may go on. */
    private readonly resume: (domid: number) => void,
  ) {}

  /** The domain has changed something. */
  spend(domid: number): void {
    this.of(domid).left--;
  }

  /** Whether the domain's next request may be served. If not, `resume` will be called. */
  mayGoOn(domid: number): boolean {
    const credit = this.of(domid);
    if (credit.left >= 0) return true;
    if (!credit.waiting) {
      credit.waiting = true;
      this.options.after(Math.ceil((-credit.left * 1000) / this.options.perSecond), () => {
        credit.waiting = false;
        this.resume(domid);
      });
    }
    return false;
  }

  /** The domain is gone. */
  delete(domid: number): void {
    this.byDomid.delete(domid);
  }

  private of(domid: number): Credit {
    const { perSecond, burst, now } = this.options;
    const at = now();
    const credit = this.byDomid.get(domid);
    if (credit === undefined) {
      const fresh = { left: burst, at, waiting: false };
      this.byDomid.set(domid, fresh);
      return fresh;
    }
    credit.left = Math.min(burst, credit.left + ((at - credit.at) * perSecond) / 1000);
    credit.at = at;
    return credit;
  }
}
