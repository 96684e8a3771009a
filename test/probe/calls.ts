/**
 * Hypercalls with good and bad arguments, in the order in which the probe's kernel makes them: their side effects are
 * part of the test. The answers of a real Xen 4.17 are in ../reference. Pointers: `input` goes to BUF and `output`
 * comes from there; HOLE is not mapped; XEN lies in Xen's own range.
 */

export const BUF = 0x18_0000;
export const BUF_BYTES = 512;
/** A second buffer, for lists to which BUF points. */
export const LIST = 0x18_1000;
/** Pages for the page-table calls: mapped at first, and used for nothing else. */
export const SPARE = 0x19_0000;
export const HOLE = 0x7000_0000;
export const XEN = 0xffff_8000_0000_0000n;
const NONCANONICAL = 0x8000_0000_0000n;
const ONES = 0xffff_ffff_ffff_ffffn;
const SELF = 0x7ff0;

export const FIX_KINDS = ['mfn', 'pte', 'l1e', 'l1', 'root', 'l1pte'] as const;

/** A number that only the guest knows: it is filled in when the call is made. */
export interface Fix {
  /** mfn: of the page at this address; pte: its machine address with flags in the low bits; l1e: machine address of
   *  the page-table entry that maps it; l1: MFN of the L1 table that does; root: MFN of the top table; l1pte: machine
   *  address of that L1 table, with flags in the low bits. */
  readonly kind: (typeof FIX_KINDS)[number];
  readonly value: number;
}
export type Word = number | bigint | Fix;

export interface ProbeCall {
  readonly name: string;
  readonly nr: number | bigint;
  readonly args: readonly Word[];
  /** Words of 64 bits that are written to BUF first. The rest of BUF is zero. */
  readonly input: readonly Word[];
  readonly list: readonly Word[];
  /** How many bytes of BUF are printed after the call. */
  readonly output: number;
}

export const mfn = (va: number): Fix => ({ kind: 'mfn', value: va });
export const pte = (va: number, flags: number): Fix => ({ kind: 'pte', value: va | flags });
export const l1e = (va: number, command = 0): Fix => ({ kind: 'l1e', value: va | command });
const l1 = (va: number): Fix => ({ kind: 'l1', value: va });
const root: Fix = { kind: 'root', value: 0 };

const calls: ProbeCall[] = [];
interface Optional {
  readonly input?: readonly Word[];
  readonly list?: readonly Word[];
  readonly output?: number;
}
const call = (name: string, nr: number | bigint, args: readonly Word[], optional: Optional = {}): void => {
  calls.push({
    name,
    nr,
    args,
    input: optional.input ?? [],
    list: optional.list ?? [],
    output: optional.output ?? 0,
  });
};
/** Two 32-bit fields in one word. */
const pair = (low: number, high: number): bigint => BigInt(low >>> 0) | (BigInt(high >>> 0) << 32n);

/** A sub-operation whose structure is at a pointer: once with that input, and with invalid pointers. */
const sub = (name: string, nr: number, cmd: number, inputs: readonly (readonly Word[])[], output: number) => {
  inputs.forEach((input, i) => {
    call(`${name} ${i}`, nr, [cmd, BUF], { input, output });
  });
  for (const [how, at] of BAD_POINTERS) call(`${name} ${how}`, nr, [cmd, at]);
};
const BAD_POINTERS: [string, Word][] = [
  ['null', 0],
  ['hole', HOLE],
  ['xen', XEN],
  ['noncanonical', NONCANONICAL],
];

// A kernel that is linked at 0 has a page there, which is unmapped here.
call('update_va_mapping of page 0 to nothing', 14, [0, 0, 2]);

// Every number with all arguments zero, and with all bits set. iret has no result; 0 and 1 are tested below.
for (let nr = 0; nr < 64; nr++) {
  if (nr === 23) continue;
  if (nr !== 14) call(`hypercall ${nr} of zeros`, nr, [0, 0, 0, 0, 0]);
  call(`hypercall ${nr} of ones`, nr, [ONES, ONES, ONES, ONES, ONES]);
  if ([3, 4, 8, 13, 14, 25].includes(nr)) continue;
  call(`hypercall ${nr} of pointers`, nr, [BUF, BUF, BUF, BUF, BUF]);
  // Command 1 of the sched_op calls sleeps.
  if (nr !== 6 && nr !== 29) call(`hypercall ${nr} of ones and holes`, nr, [1, HOLE, 1, HOLE, 1]);
}
for (const nr of [64n, 127n, 0x1_0000_0011n, ONES]) call(`hypercall ${nr}`, nr, [0]);

// xen_version: the strings themselves belong to the identity; this tests the answers.
for (let cmd = 0; cmd <= 12; cmd++) sub(`xen_version ${cmd}`, 17, cmd, [[]], cmd === 8 ? 0 : 128);
call('xen_version features 1', 17, [6, BUF], { input: [pair(1, 7)], output: 8 });
call('xen_version features 2', 17, [6, BUF], { input: [pair(2, 7)], output: 8 });

// event_channel_op
const EVTCHN = 32;
const port = (name: string, cmd: number, ...ports: number[]) => {
  for (const p of ports) call(`evtchn ${name} ${p}`, EVTCHN, [cmd, BUF], { input: [pair(p, 0)], output: 8 });
};
sub(
  'evtchn alloc_unbound',
  EVTCHN,
  6,
  [
    [pair(SELF, 0)],
    [pair(SELF | (SELF << 16), 0)],
    [pair(SELF, 9)],
    [pair(0, 0)],
    [pair(5, 0)],
    [pair(1, 0)],
    [pair(SELF | (0x7ff4 << 16), 0)],
  ],
  8,
);
sub('evtchn bind_ipi', EVTCHN, 7, [[0], [1], [0xffffffff]], 8);
sub(
  'evtchn bind_virq',
  EVTCHN,
  1,
  [[0], [0], [1], [2], [3], [5], [7], [16], [17], [23], [24], [pair(0, 1)], [pair(1, 1)], [ONES]],
  12,
);
sub(
  'evtchn bind_interdomain',
  EVTCHN,
  0,
  [
    [pair(SELF, 3)],
    [pair(SELF, 1)],
    [pair(SELF, 9)],
    [pair(SELF, 0)],
    [pair(SELF, 4096)],
    [pair(0, 1)],
    [pair(5, 1)],
    [pair(SELF, ~0)],
  ],
  12,
);
sub('evtchn bind_pirq', EVTCHN, 2, [[pair(0, 0)], [pair(16, 0)], [pair(~0, 0)]], 12);
for (const p of [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 100, 4095, 4096, 131071, 131072, 0xffffffff])
  call(`evtchn status ${p}`, EVTCHN, [5, BUF], { input: [pair(SELF, p)], output: 24 });
call('evtchn status of dom0', EVTCHN, [5, BUF], { input: [pair(0, 1)] });
call('evtchn status of nobody', EVTCHN, [5, BUF], { input: [pair(9, 1)] });
for (const [how, at] of BAD_POINTERS) call(`evtchn status ${how}`, EVTCHN, [5, at]);
port('send', 4, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 100, 4095, 4096, 0xffffffff);
port('unmask', 9, 0, 1, 2, 3, 4, 100, 4095, 4096, 0xffffffff);
for (const [p, vcpu] of [
  [3, 0],
  [3, 1],
  [0, 0],
  [5, 0],
  [6, 0],
  [7, 0],
  [100, 0],
  [4096, 0],
  [3, 4095],
])
  call(`evtchn bind_vcpu ${p} ${vcpu}`, EVTCHN, [8, BUF], { input: [pair(p, vcpu)] });
port('close', 3, 0, 3, 3, 4, 5, 6, 7, 8, 9, 100, 4096, 0xffffffff);
sub(
  'evtchn init_control',
  EVTCHN,
  11,
  [
    [1, 0],
    [pair(0, 0), ONES],
    [mfn(SPARE), pair(4, 0)],
    [mfn(SPARE), pair(4096, 0)],
    [mfn(SPARE), pair(0, 9)],
  ],
  0,
);
sub('evtchn expand_array', EVTCHN, 12, [[0], [mfn(SPARE)]], 0);
sub('evtchn set_priority', EVTCHN, 13, [[pair(1, 0)], [pair(1, 99)], [pair(100, 0)]], 0);
call('evtchn reset dom0', EVTCHN, [10, BUF], { input: [0] });
call('evtchn reset nobody', EVTCHN, [10, BUF], { input: [9] });
for (const cmd of [14, 15, 99, 0xffffffff]) call(`evtchn ${cmd}`, EVTCHN, [cmd, BUF]);

// sched_op
const SCHED = 29;
call('sched yield', SCHED, [0]);
sub('sched shutdown_code', SCHED, 5, [[99], [ONES], [0]], 0);
sub(
  'sched poll',
  SCHED,
  3,
  [
    [LIST, 129],
    [HOLE, 1],
    [0, 0, 1],
    [LIST, 0, 1],
    [LIST, 1, 1],
    [XEN, 1, 1],
  ],
  0,
);
call('sched poll of a port that is none', SCHED, [3, BUF], { input: [LIST, 1, 1], list: [5000] });
call('sched poll of two', SCHED, [3, BUF], { input: [LIST, 2, 1], list: [pair(1, 2)] });
sub(
  'sched watchdog',
  SCHED,
  6,
  [
    [pair(0, 1000)],
    [pair(0, 1000)],
    [pair(0, 1000)],
    [pair(1, 1000)],
    [pair(3, 1000)],
    [pair(9, 0)],
    [pair(1, 0)],
    [pair(1, 0)],
    [pair(2, 0)],
  ],
  0,
);
sub('sched remote_shutdown', SCHED, 4, [[pair(0, 0)], [pair(1, 0)], [pair(SELF, 0)], [pair(99, 0)]], 0);
sub('sched pin_override', SCHED, 7, [[0], [ONES]], 0);
for (const cmd of [8, 9, 0xffffffff]) call(`sched ${cmd}`, SCHED, [cmd, BUF]);

// vcpu_op
const VCPU = 24;
for (const cmd of [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 99])
  for (const vcpu of [1, 31, 32, 8191, 8192, 0xffffffff])
    call(`vcpu_op ${cmd} of vcpu ${vcpu}`, VCPU, [cmd, vcpu, BUF]);
for (const cmd of [0, 4, 5, 6, 8, 10, 13])
  for (const [how, at] of BAD_POINTERS) call(`vcpu_op ${cmd} ${how}`, VCPU, [cmd, 0, at]);
call('vcpu_op initialise again', VCPU, [0, 0, BUF]);
call('vcpu_op up', VCPU, [1, 0, 0]);
call('vcpu_op is_up', VCPU, [3, 0, 0]);
call('vcpu_op runstate area', VCPU, [5, 0, BUF], { input: [LIST] });
call('vcpu_op runstate area in a hole', VCPU, [5, 0, BUF], { input: [HOLE] });
call('vcpu_op runstate area in xen', VCPU, [5, 0, BUF], { input: [XEN] });
call('vcpu_op runstate area none', VCPU, [5, 0, BUF], { input: [0] });
for (const ns of [0n, 1n, 999_999n, 1_000_000n, 10_000_000n, 0x1_0000_0000_0000_0000n - 1n, 1n << 62n])
  call(`vcpu_op periodic ${ns}`, VCPU, [6, 0, BUF], { input: [ns] });
call('vcpu_op stop periodic', VCPU, [7, 0, 0]);
call('vcpu_op singleshot past', VCPU, [8, 0, BUF], { input: [1, 0] });
call('vcpu_op singleshot past, future wanted', VCPU, [8, 0, BUF], { input: [1, 1] });
call('vcpu_op singleshot flags', VCPU, [8, 0, BUF], { input: [1n << 60n, 0xff] });
call('vcpu_op singleshot never', VCPU, [8, 0, BUF], { input: [ONES, 1] });
call('vcpu_op stop singleshot', VCPU, [9, 0, 0]);
call('vcpu_op vcpu_info bad frame', VCPU, [10, 0, BUF], { input: [0, 0] });
call('vcpu_op vcpu_info ones', VCPU, [10, 0, BUF], { input: [ONES, 0] });
call('vcpu_op vcpu_info across pages', VCPU, [10, 0, BUF], { input: [mfn(SPARE), 4096 - 32] });
call('vcpu_op vcpu_info page end', VCPU, [10, 0, BUF], { input: [mfn(SPARE), 4096] });
call('vcpu_op vcpu_info reserved', VCPU, [10, 0, BUF], { input: [mfn(SPARE), pair(128, 1)] });
call('vcpu_op vcpu_info again', VCPU, [10, 0, BUF], { input: [mfn(SPARE), 256] });
call('vcpu_op time area', VCPU, [13, 0, BUF], { input: [LIST] });
call('vcpu_op time area in a hole', VCPU, [13, 0, BUF], { input: [HOLE] });
call('vcpu_op time area in xen', VCPU, [13, 0, BUF], { input: [XEN] });
call('vcpu_op time area none', VCPU, [13, 0, BUF], { input: [0] });
call('vcpu_op nmi', VCPU, [12, 0, BUF]);

// set_timer_op
for (const [i, t] of [0, 1, ONES, 1n << 51n, 1n << 62n, 0].entries()) call(`set_timer_op ${i}`, 15, [t]);

// memory_op
const MEMORY = 12;
for (let cmd = 0; cmd < 32; cmd++) {
  if (![2].includes(cmd))
    for (const [how, at] of BAD_POINTERS) call(`memory_op ${cmd} ${how}`, MEMORY, [cmd, at]);
  call(`memory_op ${cmd} zeros`, MEMORY, [cmd, BUF]);
  call(`memory_op ${cmd} from extent 1`, MEMORY, [cmd | 64, BUF]);
}
for (const domid of [SELF, 1, 0, 9, 0x7ff4]) {
  for (const cmd of [3, 4, 14]) call(`memory_op ${cmd} of ${domid}`, MEMORY, [cmd, BUF], { input: [domid] });
  for (const cmd of [0, 1, 6])
    call(`memory_op ${cmd} nothing of ${domid}`, MEMORY, [cmd, BUF], { input: [LIST, 0, 0, domid] });
}
const reservation = (
  name: string,
  cmd: number,
  extents: Word,
  count: number,
  order: number,
  flags = 0,
  list: Word[] = [],
) =>
  call(`memory_op ${name}`, MEMORY, [cmd, BUF], { input: [extents, count, pair(order, flags), SELF], list });
reservation('decrease a hole', 1, HOLE, 1, 0);
reservation('decrease frame 0', 1, LIST, 1, 0, 0, [0]);
reservation('decrease frame ones', 1, LIST, 1, 0, 0, [ONES]);
reservation('decrease order 99', 1, LIST, 1, 99, 0, [mfn(SPARE + 0x1000)]);
reservation('decrease a mapped page', 1, LIST, 1, 0, 0, [mfn(SPARE + 0x1000)]);
reservation('increase', 0, LIST, 1, 0);
reservation('increase order 20', 0, LIST, 1, 20);
reservation('populate over the limit', 6, LIST, 1, 0, 0, [0x3fff]);
reservation('populate order 9', 6, LIST, 1, 9, 0, [0x3000]);
reservation('populate order 30', 6, LIST, 1, 30, 0, [0x3000]);
reservation('populate a hole', 6, HOLE, 1, 0);
reservation('populate xen', 6, XEN, 1, 0);
reservation('populate flags', 6, LIST, 1, 0, 0xff, [0x3fff]);
for (const count of [0, 1, 128, 129])
  call(`memory_op memory_map ${count}`, MEMORY, [9, BUF], { input: [pair(count, 0), LIST], output: 4 });
call('memory_op memory_map into a hole', MEMORY, [9, BUF], { input: [128, HOLE], output: 4 });
call('memory_op memory_map into xen', MEMORY, [9, BUF], { input: [128, XEN], output: 4 });
call('memory_op machphys_mfn_list', MEMORY, [5, BUF], { input: [0, LIST, 7], output: 0 });
call('memory_op machphys_mapping', MEMORY, [12, BUF], { output: 24 });
for (const space of [0, 1, 2, 3, 4, 5, 9])
  call(`memory_op add_to_physmap ${space}`, MEMORY, [7, BUF], { input: [pair(SELF, space), 0, 1] });
call('memory_op remove_from_physmap', MEMORY, [15, BUF], { input: [SELF, 1] });
call('memory_op exchange of nothing', MEMORY, [11, BUF], { input: [LIST, 0, 0, SELF, LIST, 0, 0, SELF, 0] });
call('memory_op exchange unequal', MEMORY, [11, BUF], {
  input: [LIST, 1, 0, SELF, LIST, 2, 0, SELF, 0],
  output: 0,
});
call('memory_op exchange begun', MEMORY, [11, BUF], { input: [LIST, 1, 0, SELF, LIST, 1, 0, SELF, 2] });
call('memory_op exchange of dom0', MEMORY, [11, BUF], { input: [LIST, 1, 0, 0, LIST, 1, 0, 0, 0] });
call('memory_op exchange order 99', MEMORY, [11, BUF], { input: [LIST, 1, 99, SELF, LIST, 1, 99, SELF, 0] });
call('memory_op exchange frame ones', MEMORY, [11, BUF], {
  input: [LIST, 1, 0, SELF, LIST, 1, 0, SELF, 0],
  list: [ONES],
});
call('memory_op vnuma', MEMORY, [26, BUF], { input: [pair(SELF, 8), pair(8, 8), LIST, LIST, LIST] });
call('memory_op acquire_resource', MEMORY, [28, BUF], { input: [pair(SELF, 0), 1, 0, LIST] });

// grant_table_op
const GRANT = 20;
for (let cmd = 0; cmd <= 13; cmd++) {
  for (const [how, at] of BAD_POINTERS) call(`gnttab ${cmd} ${how}`, GRANT, [cmd, at, 1]);
  call(`gnttab ${cmd} none`, GRANT, [cmd, BUF, 0]);
  call(`gnttab ${cmd} minus one`, GRANT, [cmd, BUF, 0xffffffff]);
  if (cmd !== 2 && cmd !== 4) call(`gnttab ${cmd} zeros`, GRANT, [cmd, BUF, 1], { output: 32 });
  call(`gnttab ${cmd} ones`, GRANT, [cmd, BUF, 1], {
    input: [ONES, ONES, ONES, ONES, ONES, ONES],
    output: 48,
  });
}
const gnttab = (
  name: string,
  cmd: number,
  input: readonly Word[],
  output: number,
  list: readonly Word[] = [],
) => call(`gnttab ${name}`, GRANT, [cmd, BUF, 1], { input, output, list });
gnttab('setup 1', 2, [pair(SELF, 1), 0, LIST], 10);
gnttab('setup 4', 2, [pair(SELF, 4), 0, LIST], 10);
gnttab('setup 64', 2, [pair(SELF, 64), 0, LIST], 10);
gnttab('setup 65', 2, [pair(SELF, 65), 0, LIST], 10);
gnttab('setup of dom0', 2, [pair(0, 1), 0, LIST], 10);
gnttab('setup of nobody', 2, [pair(9, 1), 0, LIST], 10);
gnttab('setup into a hole', 2, [pair(SELF, 1), 0, HOLE], 10);
gnttab('setup into xen', 2, [pair(SELF, 1), 0, XEN], 10);
gnttab('size', 6, [SELF], 14);
gnttab('size of dom0', 6, [0], 14);
gnttab('size of nobody', 6, [9], 14);
for (const version of [0, 1, 3]) gnttab(`version ${version}`, 8, [version], 4);
gnttab('get version', 10, [SELF], 8);
gnttab('get version of dom0', 10, [0], 8);
gnttab('get version of nobody', 10, [9], 8);
gnttab('status frames', 9, [pair(0, SELF), LIST], 8);
gnttab('status frames 1', 9, [pair(1, SELF), LIST], 8);
for (const [name, flags, ref, dom] of [
  ['no flags', 0, 8, 1],
  ['nothing granted', 2, 8, 1],
  ['ref 0', 2, 0, 1],
  ['self', 2, 8, SELF],
  ['high ref', 2, 0x100000, 1],
  ['dom0', 2, 8, 0],
  ['dom0 high ref', 2, 513, 0],
  ['nobody', 2, 8, 9],
] as const)
  gnttab(`map ${name}`, 0, [SPARE, pair(flags, ref), dom, 0], 20);
gnttab('unmap handle 0', 1, [SPARE, 0, 0], 22);
gnttab('unmap handle 99', 1, [SPARE, 0, 99], 22);
gnttab('replace handle 99', 7, [SPARE, 0, 99], 22);
// source {gmfn|ref, domid, offset}, dest the same, len, flags, status: 16 + 16 + 2 + 2 + 2 bytes
for (const [name, source, sourceWho, dest, destWho, length, flags] of [
  ['own frames', mfn(SPARE), SELF, mfn(SPARE + 0x2000), SELF, 64, 0],
  ['past the page', mfn(SPARE), SELF | (4000 << 16), mfn(SPARE + 0x2000), SELF, 200, 0],
  ['offset 4096', mfn(SPARE), SELF | (4096 << 16), mfn(SPARE + 0x2000), SELF, 0, 0],
  ['to offset', mfn(SPARE), SELF, mfn(SPARE + 0x2000), SELF | (4095 << 16), 2, 0],
  ['frame ones', ONES, SELF, mfn(SPARE + 0x2000), SELF, 8, 0],
  ['from a grant of dom0', 8, 0, mfn(SPARE + 0x2000), SELF, 8, 1],
  ['from a grant of nobody', 8, 9, mfn(SPARE + 0x2000), SELF, 8, 1],
  ['from a frame of dom0', 8, 0, mfn(SPARE + 0x2000), SELF, 8, 0],
  ['to a grant of none', mfn(SPARE), SELF, 8, SELF, 8, 2],
  ['by two grants of none', 8, SELF, 9, SELF, 8, 3],
  ['other flags', mfn(SPARE), SELF, mfn(SPARE + 0x2000), SELF, 8, 4],
] as const) {
  call(`gnttab copy ${name}`, GRANT, [5, BUF, 1], {
    input: [source, sourceWho, dest, destWho, pair(length | (flags << 16), 0)],
  });
  call(`gnttab copy ${name}, status`, 17, [7, 0]);
}
gnttab('swap', 11, [pair(8, 9)], 10);
gnttab('swap reserved', 11, [pair(0, 1)], 10);
gnttab('swap high', 11, [pair(8, 0x100000)], 10);
gnttab('cache flush', 12, [pte(SPARE, 0), pair(64 << 16, 1)], 0);
gnttab('cache flush past the page', 12, [pte(SPARE, 0), pair(4000 | (200 << 16), 1)], 0);

// page tables
const MMU = 1;
const mmu = (name: string, ptr: Word, val: Word, dom = SELF) =>
  call(`mmu_update ${name}`, MMU, [BUF, 1, LIST, dom], { input: [ptr, val] });
mmu('an entry', l1e(SPARE), pte(SPARE, 7));
mmu('read-only', l1e(SPARE), pte(SPARE, 5));
mmu('not present', l1e(SPARE), 0);
mmu('preserving', l1e(SPARE, 2), pte(SPARE, 0x67));
mmu('translated not', l1e(SPARE, 3), pte(SPARE, 7));
mmu('unaligned', l1e(SPARE, 4), pte(SPARE, 7));
mmu('to a page table, writable', l1e(SPARE), { kind: 'l1pte', value: SPARE | 7 });
mmu('reserved bits', l1e(SPARE), 0x000f_0000_0000_0007n);
mmu('bit 62', l1e(SPARE), 0x4000_0000_0000_0000n);
mmu('a large page', l1e(SPARE), pte(SPARE, 0x87));
mmu('global', l1e(SPARE), pte(SPARE, 0x107));
mmu('frame of nobody', l1e(SPARE), 0x7_ffff_ffff_f007n);
mmu('frame 0', l1e(SPARE), 7);
mmu('in no table', pte(SPARE, 0), 7);
mmu('in no frame', 0x7_ffff_ffff_f000n, 7);
mmu('machphys', { kind: 'pte', value: SPARE | 1 }, SPARE >> 12);
mmu('machphys of nobody', 0x7_ffff_ffff_f001n, 5);
mmu('of dom0', l1e(SPARE), pte(SPARE, 7), 0);
mmu('of nobody', l1e(SPARE), pte(SPARE, 7), 9);
mmu('foreign page of dom0', l1e(SPARE), pte(SPARE, 7), 1);
for (const [how, at] of BAD_POINTERS) call(`mmu_update ${how}`, MMU, [at, 1, LIST, SELF]);
call('mmu_update of none', MMU, [BUF, 0, LIST, SELF]);
call('mmu_update of two, one bad', MMU, [BUF, 2, LIST, SELF], {
  input: [l1e(SPARE), pte(SPARE, 7), l1e(SPARE), 7],
});
call('mmu_update count into a hole', MMU, [BUF, 1, HOLE, SELF], { input: [l1e(SPARE), pte(SPARE, 7)] });
call('mmu_update too many', MMU, [BUF, 0x7fffffff, 0, SELF]);
call('mmu_update continued', MMU, [BUF, 0x80000001, 0, SELF], { input: [l1e(SPARE), pte(SPARE, 7)] });

const VA = 14;
for (const flags of [0, 1, 2, 3, 4, 5, 6, 7, 8, LIST, HOLE, HOLE | 1, HOLE | 2])
  call(`update_va_mapping flags ${flags.toString(16)}`, VA, [SPARE, pte(SPARE, 7), flags]);
for (const [name, at, value] of [
  ['in a hole', HOLE, 0],
  ['in xen', XEN, 0],
  ['noncanonical', NONCANONICAL, 0],
  ['unaligned', SPARE + 5, pte(SPARE, 7)],
  ['nothing', SPARE, 0],
  ['ones', SPARE, ONES],
  ['a page again', SPARE, pte(SPARE, 7)],
] as const)
  call(`update_va_mapping ${name}`, VA, [at, value, 2]);
for (const dom of [SELF, 0, 9])
  call(`update_va_mapping_otherdomain ${dom}`, 22, [SPARE, pte(SPARE, 7), 2, dom]);

const EXT = 26;
const ext = (name: string, cmd: number, arg1: Word, arg2: Word = 0, dom = SELF) =>
  call(`mmuext_op ${name}`, EXT, [BUF, 1, LIST, dom], { input: [cmd, arg1, arg2] });
// A page that is no longer mapped writable may become a page table or hold descriptors.
call('update_va_mapping read-only', VA, [SPARE + 0x6000, pte(SPARE + 0x6000, 5), 2]);
ext('pin a read-only page as l1', 0, mfn(SPARE + 0x6000));
ext('pin it again', 0, mfn(SPARE + 0x6000));
call('update_va_mapping writable, to a table', VA, [SPARE + 0x6000, pte(SPARE + 0x6000, 7), 2]);
ext('unpin it', 4, mfn(SPARE + 0x6000));
call('update_va_mapping writable again', VA, [SPARE + 0x6000, pte(SPARE + 0x6000, 7), 2]);
for (let level = 1; level <= 4; level++) {
  ext(`pin ordinary page as l${level}`, level - 1, mfn(SPARE + 0x3000));
  ext(`pin mapped table as l${level}`, level - 1, l1(SPARE));
  ext(`pin root as l${level}`, level - 1, root);
  ext(`pin nobody as l${level}`, level - 1, ONES);
}
ext('unpin what is not pinned', 4, mfn(SPARE));
ext('unpin nobody', 4, ONES);
ext('unpin l1', 4, l1(SPARE));
ext('baseptr', 5, root);
ext('baseptr ordinary page', 5, mfn(SPARE));
ext('baseptr nobody', 5, ONES);
ext('user baseptr', 15, root);
ext('user baseptr none', 15, 0);
ext('user baseptr ordinary page', 15, mfn(SPARE));
ext('flush', 6, 0);
ext('invlpg', 7, SPARE);
ext('invlpg xen', 7, XEN);
ext('flush multi', 8, 0, LIST);
ext('flush multi hole', 8, 0, HOLE);
ext('invlpg multi', 9, SPARE, LIST);
ext('invlpg multi hole', 9, SPARE, HOLE);
ext('flush all', 10, 0);
ext('invlpg all', 11, SPARE);
ext('flush cache', 12, 0);
ext('flush cache global', 18, 0);
ext('ldt none', 13, 0, 0);
ext('ldt one', 13, SPARE + 0x4000, 1);
ext('ldt 8192', 13, SPARE + 0x4000, 8192);
ext('ldt 8193', 13, SPARE + 0x4000, 8193);
ext('ldt unaligned', 13, SPARE + 8, 1);
ext('ldt in xen', 13, XEN, 1);
ext('ldt none again', 13, 0, 0);
ext('clear', 16, mfn(SPARE));
ext('clear a table', 16, l1(SPARE));
ext('clear nobody', 16, ONES);
ext('copy', 17, mfn(SPARE), mfn(SPARE + 0x2000));
ext('copy nobody', 17, mfn(SPARE), ONES);
ext('copy to a table', 17, l1(SPARE), mfn(SPARE));
for (const cmd of [14, 19, 20, 21, 99]) ext(`command ${cmd}`, cmd, mfn(SPARE));
ext('of dom0', 6, 0, 0, 0);
ext('of nobody', 6, 0, 0, 9);
for (const [how, at] of BAD_POINTERS) call(`mmuext_op ${how}`, EXT, [at, 1, LIST, SELF]);
call('mmuext_op of none', EXT, [BUF, 0, LIST, SELF]);
call('mmuext_op count', EXT, [BUF, 2, BUF + 64, SELF], { input: [6, 0, 0, 99, 0, 0], output: 72 });
call('mmuext_op continued', EXT, [BUF, 0x80000001, 0, SELF], { input: [6, 0, 0] });

// descriptors, traps, callbacks
for (const [name, frames, entries] of [
  ['none', [], 0],
  ['one', [mfn(SPARE + 0x5000)], 1],
  ['512', [mfn(SPARE + 0x5000)], 512],
  ['513 in one frame', [mfn(SPARE + 0x5000), 0], 513],
  ['too many', [mfn(SPARE + 0x5000)], 0x1c01],
  ['frame of nobody', [ONES], 1],
  ['frame of a table', [l1(SPARE)], 1],
  ['none again', [], 0],
] as const)
  call(`set_gdt ${name}`, 2, [BUF, entries], { input: frames });
call('set_gdt hole', 2, [HOLE, 1]);
call('update_va_mapping read-only, for descriptors', VA, [SPARE + 0x7000, pte(SPARE + 0x7000, 5), 2]);
call('set_gdt of it', 2, [BUF, 512], { input: [mfn(SPARE + 0x7000)] });
call('update_descriptor in it', 10, [pte(SPARE + 0x7000, 8), 0x00cff300_0000ffffn]);
call('update_va_mapping writable, to descriptors', VA, [SPARE + 0x7000, pte(SPARE + 0x7000, 7), 2]);
call('set_gdt none at the end', 2, [BUF, 0]);
call('update_va_mapping writable, no more descriptors', VA, [SPARE + 0x7000, pte(SPARE + 0x7000, 7), 2]);
for (const [name, at, value] of [
  ['ordinary page', pte(SPARE, 0), 0],
  ['unaligned', pte(SPARE, 4), 0],
  ['nobody', 0x7_ffff_ffff_f000n, 0],
  ['table', l1e(SPARE), 0],
  ['code for ring 0', pte(SPARE, 0), 0x00af9b00_0000ffffn],
  ['call gate', pte(SPARE, 0), 0x0000ec00_00000000n],
  ['data', pte(SPARE, 8), 0x00cff300_0000ffffn],
] as const)
  call(`update_descriptor ${name}`, 10, [at, value]);
call('set_trap_table empty', 0, [BUF], { input: [] });
call('set_trap_table one', 0, [BUF], { input: [0xe033_0003n, LIST] });
call('set_trap_table noncanonical', 0, [BUF], { input: [0xe033_0003n, NONCANONICAL] });
call('set_trap_table ring 0', 0, [BUF], { input: [0xe030_0003n, LIST] });
call('set_trap_table none', 0, [0]);
for (const [how, at] of BAD_POINTERS.slice(1)) call(`set_trap_table ${how}`, 0, [at]);
for (const [name, event, failsafe, syscall] of [
  ['xen', XEN, 0, 0],
  ['noncanonical', NONCANONICAL, NONCANONICAL, NONCANONICAL],
  ['none', 0, 0, 0],
] as const)
  call(`set_callbacks ${name}`, 4, [event, failsafe, syscall]);
for (let type = 0; type < 9; type++) {
  call(`callback_op register ${type}`, 30, [0, BUF], { input: [type, LIST] });
  call(`callback_op register ${type} noncanonical`, 30, [0, BUF], { input: [type, NONCANONICAL] });
  call(`callback_op unregister ${type}`, 30, [1, BUF], { input: [type] });
}
for (const [how, at] of BAD_POINTERS) call(`callback_op register ${how}`, 30, [0, at]);
call('callback_op 2', 30, [2, BUF]);
call('callback_op event none', 30, [0, BUF], { input: [0, 0] });
for (const ss of [0, 0xe02b, 0xe028, 0x10]) call(`stack_switch ${ss.toString(16)}`, 3, [ss, LIST]);
call('stack_switch noncanonical', 3, [0xe02b, NONCANONICAL]);
call('nmi_op register', 28, [0, BUF], { input: [LIST] });
call('nmi_op register noncanonical', 28, [0, BUF], { input: [NONCANONICAL] });
call('nmi_op register hole', 28, [0, HOLE]);
call('nmi_op unregister', 28, [1, 0]);
call('nmi_op 2', 28, [2, 0]);

// processor
for (let reg = 0; reg < 10; reg++) {
  call(`get_debugreg ${reg}`, 9, [reg]);
  for (const value of [0, LIST, XEN, NONCANONICAL, ONES, 0x2_0000_0000n, 0x402])
    call(`set_debugreg ${reg} ${value.toString(16)}`, 8, [reg, value]);
  call(`get_debugreg ${reg} after`, 9, [reg]);
  call(`set_debugreg ${reg} back`, 8, [reg, 0]);
}
for (const [which, value] of [
  [0, LIST],
  [0, NONCANONICAL],
  [0, XEN],
  [1, LIST],
  [1, NONCANONICAL],
  [2, LIST],
  [2, NONCANONICAL],
  [3, 0],
  [3, 0xe02b],
  [3, 0xffff],
  [4, 0],
] as const)
  call(`set_segment_base ${which} ${value.toString(16)}`, 25, [which, value]);
for (const type of [0, 1, 2, 3, 4, 5, 6, 31, 32, 0xffffffff]) {
  call(`vm_assist enable ${type}`, 21, [0, type]);
  call(`vm_assist disable ${type}`, 21, [1, type]);
}
call('vm_assist 2', 21, [2, 0]);
call('fpu_taskswitch on', 5, [1]);
call('fpu_taskswitch off', 5, [0]);
const PHYSDEV = 33;
for (let cmd = 0; cmd < 34; cmd++) {
  if (cmd !== 6 && cmd !== 7) call(`physdev_op ${cmd} zeros`, PHYSDEV, [cmd, BUF], { output: 8 });
  call(`physdev_op ${cmd} hole`, PHYSDEV, [cmd, HOLE]);
  call(`physdev_op ${cmd} ones`, PHYSDEV, [cmd, BUF], { input: [ONES, ONES, ONES, ONES] });
}
for (const iopl of [0, 1, 2, 3, 4, 0xffffffff, 0])
  call(`physdev_op iopl ${iopl}`, PHYSDEV, [6, BUF], { input: [iopl] });
call('physdev_op iobitmap', PHYSDEV, [7, BUF], { input: [LIST, 64] });
call('physdev_op iobitmap 65536', PHYSDEV, [7, BUF], { input: [LIST, 65536] });
call('physdev_op iobitmap 65537', PHYSDEV, [7, BUF], { input: [LIST, 65537] });
call('physdev_op iobitmap in xen', PHYSDEV, [7, BUF], { input: [XEN, 64] });
call('physdev_op iobitmap none', PHYSDEV, [7, BUF], { input: [0, 0] });
for (let cmd = 0; cmd < 10; cmd++) {
  call(`xenpmu_op ${cmd}`, 40, [cmd, BUF]);
  call(`xenpmu_op ${cmd} hole`, 40, [cmd, HOLE]);
}
for (let cmd = 0; cmd < 4; cmd++) {
  call(`console_io ${cmd}`, 18, [cmd, 3, BUF], { input: [0x0a6968n] });
  call(`console_io ${cmd} hole`, 18, [cmd, 3, HOLE]);
}
// Calls of the toolstack, which no guest may make.
for (const nr of [7, 34, 35, 36, 37, 38, 39, 41, 42, 48])
  for (let cmd = 0; cmd < 8; cmd++)
    call(`hypercall ${nr} command ${cmd}`, nr, [cmd, BUF, 1], { input: [cmd, ONES, ONES] });

// multicall
const MULTI = 13;
const multi = (name: string, list: Word, count: Word, input: readonly Word[] = [], output = 0) =>
  call(`multicall ${name}`, MULTI, [list, count], { input, output });
multi('of none', BUF, 0);
multi('of two', BUF, 2, [17, 7, 0, 0, 0, 0, 0, 0, 29, 7, 99, 0, 0, 0, 0, 0], 128);
multi('of an unknown call', BUF, 1, [63, 7], 16);
multi('of a number with high bits', BUF, 1, [0x1_0000_0011n, 7], 16);
multi('within a multicall', BUF, 1, [MULTI, 7, BUF + 64, 1, 0, 0, 0, 0, 17, 7], 80);
for (const [how, at] of BAD_POINTERS) multi(how, at, 1);
multi('count with high bits', BUF, 0x1_0000_0001n, [29, 7, 0], 16);

export const CALLS: readonly ProbeCall[] = calls;
