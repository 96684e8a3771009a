/**
 * Limits how fast a domain may change the store. Without a limit, one domain that writes all the time would make
 * every transaction of the others fail. A domain that has used up its credit is not read from until it has some
 * again; nothing that it has sent is lost. Privileged domains are not limited.
 * Source: the intent of "write rate limiting" in tools/xenstored/domain.c of Xen. Its sharing of unused credit
 * between domains is left out.
 */

/** WRL_RATE and WRL_BURST of xenstored. */
const WRITES_PER_SECOND = 200;
const WRITE_BURST = 10;

export interface WriteRateOptions {
  /** Changes per second; 200 by default. */
  readonly perSecond?: number;
  /** How many changes may come at once; 10 by default. */
  readonly burst?: number;
  /** The time in milliseconds, from a clock that never goes backwards. */
  now(): number;
  /** Runs `action` after `ms` milliseconds. */
  after(ms: number, action: () => void): void;
}

interface Credit {
  /** How many changes could be made at the time `at`. It is negative after a burst. */
  left: number;
  at: number;
  /** True if `resume` will be called when there is credit again. */
  waiting: boolean;
}

export class WriteRate {
  private readonly byDomid = new Map<number, Credit>();
  private readonly perSecond: number;
  private readonly burst: number;

  constructor(
    private readonly options: WriteRateOptions,
    /** Called when a domain that was stopped may continue. */
    private readonly resume: (domid: number) => void,
  ) {
    this.perSecond = options.perSecond ?? WRITES_PER_SECOND;
    this.burst = options.burst ?? WRITE_BURST;
  }

  /** To be called when the domain has changed something. */
  spend(domid: number): void {
    this.of(domid).left--;
  }

  /** Whether the domain's next request may be served. If not, `resume` will be called later. */
  mayGoOn(domid: number): boolean {
    const credit = this.of(domid);
    if (credit.left >= 0) return true;
    if (!credit.waiting) {
      credit.waiting = true;
      this.options.after(Math.ceil((-credit.left * 1000) / this.perSecond), () => {
        credit.waiting = false;
        this.resume(domid);
      });
    }
    return false;
  }

  /** To be called when the domain is gone. */
  delete(domid: number): void {
    this.byDomid.delete(domid);
  }

  private of(domid: number): Credit {
    const { perSecond, burst } = this;
    const at = this.options.now();
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
