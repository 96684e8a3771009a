/**
 * Lines that a kernel's log must not have: every line that reports trouble, except those that a kernel on real Xen
 * prints as well. Where no log of the same kernel on real Xen is available, each such line is listed here with its
 * reason.
 */
import { readFileSync } from 'node:fs';
import { inRoot } from '../../scripts/lib/root.js';
import { wordsOf } from './dmesg.js';

const REFERENCE = inRoot('test/reference/linux-6.1-dmesg-on-xen-4.17.txt');

/** Words by which a kernel reports that something is wrong. */
const TROUBLE =
  /\b(WARN(ING)?|BUG|Oops|panic|Call Trace|Modules linked in|RIP|stall(s|ed)?|lockup|hung|blocked for|fail(s|ed|ure)?|errors?|unable|cannot|can't|couldn't|unknown|invalid|unsupported|inconsistent|bad|corrupt\w*|timed? ?out|refused|denied|taint(s|ed)?|violation|unexpected|unstable|missing|broken|firmware bug|not (found|supported|responding|available)|backwards|skew\w*|dropped|overrun|reset)\b/i;

/** Each entry: a line, and why guests of real Xen print it too. */
const SAID_ON_XEN: readonly (readonly [RegExp, string])[] = [
  [/DMI:? not present or invalid/, 'a PV guest has no firmware tables; worded anew since Linux 6.2'],
  [
    /PMU not available due to virtualization/,
    'VPMU is off in Xen by default; with 6.1 in one line with what comes before',
  ],
  [/Correctable Errors collector initialized/, 'not trouble, but its name'],
  [
    /microcode: AMD CPU family 0x6 not supported/,
    'the family of the processor of the profile, which Xen does not hide',
  ],
  [
    /clocksource: Watchdog remote CPU \d+ read timed out/,
    'information of Linux 7.2, once: where vCPUs take turns, no two of them read their TSC within the same 50 µs',
  ],
  [
    /\[Firmware Bug\]: CPU\d+: APIC id mismatch. Firmware: ffff APIC: 0/,
    "kernels built without domain 0's support (cloud) have no driver for the APIC of a PV guest, and compare with nothing",
  ],
];

/**
 * Whole traces, each with its reason. They are matched as several lines, so that their words are not allowed elsewhere.
 */
const TRACES_ON_XEN: readonly (readonly [RegExp, string])[] = [
  [
    /^.*BUG: scheduling while atomic: swapper\/\d+\/0\/0x00000002\n.*\n.* 5\.10\.0-\d+-rt-amd64 (?:.*\n){4,20}?.*cpu_bringup_and_idle.*\n/gm,
    'Linux 5.10 with PREEMPT_RT counts twice where a second vCPU of a PV guest begins: real Xen 4.17 shows the same, vCPU by vCPU',
  ],
];

/** Returns the lines of trouble in a log that no guest of real Xen has. */
export function oddLines(log: string): string[] {
  const reference = new Set(readFileSync(REFERENCE, 'latin1').split(/\r?\n/).map(wordsOf));
  const rest = TRACES_ON_XEN.reduce((text, [trace]) => text.replace(trace, ''), log.replaceAll('\r', ''));
  return rest
    .split('\n')
    .filter((line) => TROUBLE.test(line))
    .filter((line) => !reference.has(wordsOf(line)))
    .filter((line) => !SAID_ON_XEN.some(([pattern]) => pattern.test(line)));
}
