/**
 * Runs jobs one after another, in the order in which they were added. A job that fails does not stop the following
 * ones.
 */
export class JobQueue {
  private last: Promise<unknown> = Promise.resolve();

  run<T>(job: () => Promise<T> | T): Promise<T> {
    const result = this.last.then(job, job);
    this.last = result.catch(() => {});
    return result;
  }
}
