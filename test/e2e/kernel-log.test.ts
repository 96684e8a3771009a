import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { oddLines } from './kernel-log.js';

const onXen = readFileSync(
  new URL('../reference/linux-6.1-dmesg-on-xen-4.17.txt', import.meta.url),
  'latin1',
);

describe('a kernel’s log', () => {
  it('has no line of trouble on real Xen', () => {
    expect(oddLines(onXen)).toEqual([]);
  });

  it.each([
    '[   21.513113] rcu: INFO: rcu_preempt self-detected stall on CPU',
    '[   52.100000] watchdog: BUG: soft lockup - CPU#0 stuck for 39s! [sh:77]',
    '[    1.000000] WARNING: CPU: 1 PID: 12 at arch/x86/xen/mmu_pv.c:100 xen_set_pte+0x10/0x20',
    '[    9.100000] blkfront: xvda: write error, sector 8',
    '[    9.100000] I/O error, dev xvda, sector 0 op 0x0:(READ)',
    "[    3.100000] clocksource: timekeeping watchdog: Marking clocksource 'tsc' as unstable because the skew is too large:",
    '[  242.656000] INFO: task dd:99 blocked for more than 120 seconds.',
    '[    7.700000] xen_netfront: backend supports neither of them: failed',
    '[    4.039884] BUG: scheduling while atomic: swapper/1/0/0x00000002',
    '[    4.040202] Call Trace:',
  ])('has a line of trouble with %s', (line) => {
    expect(oddLines(`${onXen}\n${line}\n`)).toEqual([line]);
  });
});
