/** Runs jobs one after the other, in the order in which they came. A job that fails does not stop those behind it. */
export class Serial {
  private last: Promise<unknown> = Promise.resolve();

  run<T>(job: () => Promise<T> | T): Promise<T> {
    const result = this.last.then(job, job);
    this.last = result.catch(() => {});
    return result;
  }
}
