// Failures of the bed itself, which are nobody's fault here: a domain whose processor ends in a triple fault while it seems
// to execute Xen's own code, which no guest can; and xenstored gone, of which dom0/init.sh tells. (The xenstored in C of
// 4.17, which the bed had first, ended now and then by an assertion of its own: consider_message, conn->in == NULL.)

/** Where Xen 4.17 lies: XEN_VIRT_START and its 1 GiB, xen/arch/x86/include/asm/config.h. */
const XEN_START = 0xffff82d040000000n;
const XEN_BYTES = 1n << 30n;
/** The dump of a processor follows this line, and its RIP is in the first lines of it. */
const TRIPLE_FAULT =
  /Triple fault - invoking HVM shutdown action[\s\S]{0,1500}?RIP:\s+[0-9a-f]{4}:\[<([0-9a-f]{16})>\]/g;

const XENSTORED_GONE = /BED-FAILED xenstored/g;

/** How many there are in what Xen and dom0's kernel have printed on the console. */
export function emulatorFailures(console: string): number {
  let count = [...console.matchAll(XENSTORED_GONE)].length;
  for (const [, rip] of console.matchAll(TRIPLE_FAULT)) {
    const offset = BigInt(`0x${rip}`) - XEN_START;
    if (offset >= 0n && offset < XEN_BYTES) count++;
  }
  return count;
}

/** The emulator has failed, not what was tried in it. */
export class EmulatorFailed extends Error {
  constructor(failures: number, cause: unknown) {
    super(`the emulator failed ${failures} times (a triple fault in Xen's own code, or xenstored gone)`, {
      cause,
    });
  }
}
