import { describe, expect, it } from 'vitest';
import { FRAMES, TinyGuest } from '../../test/support/tiny-guest.js';

const CALLS = 1_000_000;
const SCRATCH = 0x5_0000;
const R12 = 12;

/**
 * A kernel that makes random hypercalls with random arguments and random memory contents until it breaks itself. Its
 * choices are often nearly valid: its own addresses, frames and page-table entries.
 */
const wild = (seed: number): string =>
  `
    mov r15, ${seed}
    xor r12d, r12d
    mov rbx, ${SCRATCH}
  again:
    mov ebp, 6
  scribble:
    call random
    and eax, 0x3ff8
    mov r13, rax
    call pick
    mov [rbx+r13], rax
    dec ebp
    jnz scribble
    call pick
    mov rdi, rax
    call pick
    mov rsi, rax
    call pick
    mov rdx, rax
    call pick
    mov r10, rax
    call pick
    mov r8, rax
    call random
    mov rcx, rax
    and eax, 63
    cmp eax, 23
    jne made
    shr rcx, 20
    test ecx, 0xfff
    jnz again
  made:
    ; how many of a list: mostly few, so that most calls are calls of their own
    test ecx, 0x700000
    jz full
    cmp eax, 20
    jne lists
    and edx, 63
  lists:
    cmp eax, 13
    je few
    cmp eax, 1
    je few
    cmp eax, 26
    jne full
  few:
    and esi, 63
  full:
    inc r12
    syscall
    mov rbx, ${SCRATCH}
    jmp again
  random:
    mov rax, r15
    mov rcx, rax
    shl rcx, 13
    xor rax, rcx
    mov rcx, rax
    shr rcx, 7
    xor rax, rcx
    mov rcx, rax
    shl rcx, 17
    xor rax, rcx
    mov r15, rax
    ret
  pick:
    call random
    mov r9, rax
    shr r9, 8
    and eax, 15
    lea rcx, [choices]
    mov rax, [rcx+rax*8]
    jmp rax
  p_small:
    mov rax, r9
    and eax, 63
    ret
  p_scratch:
    mov rax, r9
    and eax, 0x3fff
    add rax, rbx
    ret
  p_aligned:
    mov rax, r9
    and eax, 0x3ff8
    add rax, rbx
    ret
  p_entry:
    mov rax, r9
    and eax, 0xfff
    add rax, 0x100000
    shl rax, 12
    shr r9, 20
    and r9d, 7
    or rax, r9
    ret
  p_tables:
    mov rax, r9
    and eax, 7
    add rax, ${0x100000 + FRAMES - 8}
    shl rax, 12
    shr r9, 8
    and r9d, 0xfff
    or rax, r9
    ret
  p_mfn:
    mov rax, r9
    and eax, 0xfff
    add rax, 0x100000
    ret
  p_frame:
    mov rax, r9
    and eax, 0x7ff
    shl rax, 12
    ret
  p_any:
    mov rax, r9
    ret
  p_self: mov eax, 0x7ff0
    ret
  p_pair: mov eax, 0x7ff07ff0
    ret
  p_zero: xor eax, eax
    ret
  p_ones: mov rax, -1
    ret
  p_xen: mov rax, 0xffff800000000000
    ret
  choices:
    dq p_small, p_small, p_scratch, p_aligned, p_aligned, p_aligned, p_entry, p_tables
    dq p_mfn, p_frame, p_any, p_self, p_pair, p_zero, p_ones, p_xen
`;

describe('a hostile guest', () => {
  it('that makes a million random hypercalls breaks only itself', async () => {
    let made = 0;
    let guests = 0;
    const ends = new Map<string, number>();
    while (made < CALLS) {
      const guest = await TinyGuest.boot(wild(guests++ * 7919 + 12345), { vcpus: 2 });
      const { domain } = guest;
      const { mem, engine } = domain.state;
      const at = (frame: number): number => engine.ram.linearOf(frame);
      const { layout } = domain;
      const guards = () => [
        mem.bytes(at(layout.m2pTables), (layout.total - layout.m2pTables) * 4096).slice(),
        mem.u8.slice(at(layout.total)),
      ];
      const before = guards();
      for (let turns = 0; turns < 200; turns++) {
        const end = domain.run(1_000_000);
        if (end.state === 'running') continue;
        const kind = end.state === 'shutdown' ? end.reason : end.state;
        ends.set(kind, (ends.get(kind) ?? 0) + 1);
        if (kind === 'crash') break;
        // The guest asked for this, a shutdown or to sleep; it is run again at once.
        domain.state.shutdown = undefined;
        domain.state.shutdownCode = -1;
        for (const v of domain.state.vcpus) domain.state.events.unblock(v);
        domain.state.vcpus[0].down = false;
      }
      made += domain.state.vcpus[0].cpu.reg(R12);
      const after = guards();
      for (const [i, bytes] of before.entries()) expect(Buffer.compare(bytes, after[i])).toBe(0);
    }
    // Most of these guests end by breaking their own page tables or stack.
    expect(ends.get('crash')).toBeGreaterThan(0);
    expect(guests).toBeLessThan(CALLS);
  }, 120_000);
});
