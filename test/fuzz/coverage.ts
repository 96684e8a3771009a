/** Reports which of our own code an input has executed, by V8's precise coverage of this process. */
import inspector from 'node:inspector';

interface Range {
  readonly startOffset: number;
  readonly count: number;
}
interface Taken {
  readonly result: readonly {
    readonly url: string;
    readonly functions: readonly { readonly ranges: readonly Range[] }[];
  }[];
}

export class Coverage {
  private readonly session = new inspector.Session();
  private readonly seen = new Set<string>();

  /** Only files whose URL matches are counted. */
  constructor(private readonly files: RegExp) {
    this.session.connect();
    this.session.post('Profiler.enable');
    this.session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** The number of paths through functions that were new since the last call. */
  fresh(): number {
    let taken: Taken | undefined;
    this.session.post('Profiler.takePreciseCoverage', (error, result) => {
      if (error) throw error;
      taken = result as unknown as Taken;
    });
    let fresh = 0;
    for (const { url, functions } of taken?.result ?? []) {
      if (!this.files.test(url)) continue;
      for (const { ranges } of functions) {
        if (ranges[0].count === 0) continue;
        // The path is which of a function's blocks were executed.
        const way = `${url} ${ranges.map((r) => `${r.startOffset}${r.count > 0 ? '+' : '-'}`).join(' ')}`;
        if (this.seen.has(way)) continue;
        this.seen.add(way);
        fresh++;
      }
    }
    return fresh;
  }

  get ways(): number {
    return this.seen.size;
  }

  close(): void {
    this.session.post('Profiler.stopPreciseCoverage');
    this.session.disconnect();
  }
}
