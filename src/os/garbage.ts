/**
 * Returns unused memory to the system now, instead of when the heap has grown the next time. Unpacking a kernel
 * leaves more garbage than a guest's process otherwise needs memory, and collecting the small heap takes a few ms.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

let collect: (() => void) | undefined;

export function collectGarbage(): void {
  if (collect === undefined) {
    // Only contexts that are made while the flag is set have this function.
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as () => void;
    setFlagsFromString('--no-expose-gc');
  }
  collect();
}
