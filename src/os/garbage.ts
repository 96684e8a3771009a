/**
 * Memory that is needed no more, given back to the system now and not when the heap has grown next. Unpacking a kernel
 * leaves more behind than a guest's process otherwise needs, and a collection of the small heap takes a few ms.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

let collect: (() => void) | undefined;

export function collectGarbage(): void {
  if (collect === undefined) {
    // The function is there in contexts that are made while the flag is set.
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as () => void;
    setFlagsFromString('--no-expose-gc');
  }
  collect();
}
