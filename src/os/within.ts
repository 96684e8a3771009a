import { type Alarm, type Clock, systemClock } from './clock.js';

/**
 * Waits for a promise with a time limit. The limit does not end what is waited for; the caller decides what to do
 * next.
 */
export async function within<T>(
  what: Promise<T>,
  ms: number,
  words: string,
  clock: Pick<Clock, 'after'> = systemClock,
): Promise<T> {
  let alarm: Alarm | undefined;
  const late = new Promise<never>((_, reject) => {
    alarm = clock.after(ms, () => reject(new Error(words)));
  });
  try {
    return await Promise.race([what, late]);
  } finally {
    alarm?.cancel();
  }
}
