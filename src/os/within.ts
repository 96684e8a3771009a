import { type Alarm, type Clock, systemClock } from './clock.js';

/**
 * Waits for a promise with a time limit. The limit does not end what is waited for; the caller decides what to do
 * next. `words` is what the error then says; a function is asked when the limit is reached.
 */
export async function within<T>(
  what: Promise<T>,
  ms: number,
  words: string | (() => string),
  clock: Pick<Clock, 'after'> = systemClock,
): Promise<T> {
  let alarm: Alarm | undefined;
  const late = new Promise<never>((_, reject) => {
    alarm = clock.after(ms, () => reject(new Error(typeof words === 'string' ? words : words())));
  });
  try {
    return await Promise.race([what, late]);
  } finally {
    alarm?.cancel();
  }
}
