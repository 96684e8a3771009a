import { describe, expect, it } from 'vitest';
import { CLEAR_EVENTS, LEAVE_CALLBACK, TIMER_EVENTS, VIRQ_DATA } from '../../test/support/event-kernel.js';
import { CallingGuest, DATA, mfn, TinyGuest } from '../../test/support/tiny-guest.js';
import { RecordError } from '../records/fields.js';
import { decodeAll, type RawRecord } from '../records/record.js';

/** A kernel that computes, takes timer events and makes hypercalls, for ever. */
const BUSY = `
    ${TIMER_EVENTS}
    mov rbx, DATA
    mov r12, 0x9e3779b97f4a7c15
    mov r13, 1
    mov byte [SHARED+1], 0
    call arm
  work:
    imul r13, r12
    add r13, 11
    mov rax, r13
    shr rax, 48
    and eax, 0xff8
    mov [rbx+0x1000+rax], r13
    xor edi, edi
    xor esi, esi
    mov eax, XEN_VERSION
    syscall
    add [rbx+16], rax
    jmp work
  arm:
    rdtsc
    shl rdx, 32
    or rax, rdx
    lea rdi, [rax+50000]
    mov eax, SET_TIMER_OP
    syscall
    ret
  onevent:
    push rax
    push rdx
    push rdi
    ${CLEAR_EVENTS}
    inc qword [rbx]
    rdtsc
    shl rdx, 32
    or rax, rdx
    add [rbx+8], rax
    call arm
    pop rdi
    pop rdx
    pop rax
    ${LEAVE_CALLBACK}
  ${VIRQ_DATA}`;
/** The records of a guest except the machine's own record, which also contains what no instruction can observe. */
const records = (g: TinyGuest): RawRecord[] => decodeAll(g.domain.save()).filter((r) => r.tag !== 'MACH');
const registers = (g: TinyGuest) => g.domain.crashReport().vcpus;

describe('a guest that is saved and restored', () => {
  it('ends in the same state, byte for byte, as one that was never stopped', async () => {
    const still = await TinyGuest.boot(BUSY);
    still.run(3_000_000);
    let moved = await TinyGuest.boot(BUSY);
    for (const part of [1, 999, 123_457, 500_000]) {
      moved.run(part);
      moved = await moved.moved();
    }
    moved.run(3_000_000 - moved.domain.clock.now() + (still.domain.clock.now() - 3_000_000));
    expect(moved.domain.clock.now()).toBe(still.domain.clock.now());
    expect(still.s64(DATA)).toBeGreaterThan(20);
    expect(Buffer.compare(still.ram, moved.ram)).toBe(0);
    expect(records(moved)).toEqual(records(still));
    expect(registers(moved)).toEqual(registers(still));
  });

  it('keeps its ports, grants, page-table types and registrations', async () => {
    const c = await CallingGuest.boot({ vcpus: 2 });
    const { guest } = c;
    const { state } = guest.domain;
    guest.setU64(DATA, 0);
    c.call(32, 7, DATA);
    guest.setU64(DATA, mfn(0x80));
    guest.setU64(DATA + 8, 64);
    expect(c.call(24, 10, 0, DATA)).toBe(0);
    guest.setU64(DATA, DATA + 0x800);
    expect(c.call(24, 5, 0, DATA)).toBe(0);
    state.grants.seed(30, 0, mfn(0x90));
    guest.domain.backend.grantMap(30, true);
    const saved = guest.domain.save();
    const to = await TinyGuest.empty('nop', { vcpus: 2 });
    to.ram.set(guest.ram);
    to.domain.restore(saved.slice());
    const other = to.domain.state;
    expect(other.events.state.slice(0, 64)).toEqual(state.events.state.slice(0, 64));
    expect(other.grants.pins()).toEqual(state.grants.pins());
    expect([...other.frames.type]).toEqual([...state.frames.type]);
    expect([...other.frames.count]).toEqual([...state.frames.count]);
    expect(other.vcpus[0].vcpuInfo).toBe(other.engine.ram.address(mfn(0x80)) + 64);
    expect(other.vcpus[0].runstateArea).toBe(DATA + 0x800);
    expect(records(to)).toEqual(records(guest));
  });

  it('is refused when its records do not fit the container', async () => {
    const c = await CallingGuest.boot({ vcpus: 2 });
    const saved = c.guest.domain.save();
    const to = await TinyGuest.empty('nop', { vcpus: 1 });
    expect(() => to.domain.restore(saved)).toThrow(RecordError);
    const smaller = await TinyGuest.empty('nop', { vcpus: 2, maxFrames: 4096 });
    expect(() => smaller.domain.restore(saved)).toThrow(/frames expected/);
    const damaged = saved.slice();
    damaged[damaged.length >> 1] ^= 4;
    const fresh = await TinyGuest.empty('nop', { vcpus: 2 });
    expect(() => fresh.domain.restore(damaged)).toThrow(RecordError);
  });
});

describe('a deterministic guest', () => {
  it('does the same in every run, however its time is divided', async () => {
    const a = await TinyGuest.boot(BUSY);
    a.run(2_000_000);
    const b = await TinyGuest.boot(BUSY);
    while (b.domain.clock.now() < a.domain.clock.now()) {
      b.run(Math.min(7_001, a.domain.clock.now() - b.domain.clock.now()));
    }
    expect(b.domain.clock.now()).toBe(a.domain.clock.now());
    expect(Buffer.compare(a.ram, b.ram)).toBe(0);
  });
});
