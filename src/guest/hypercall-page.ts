/**
 * The page of stubs that older kernels call for hypercalls, with 32 bytes for each of 128 hypercall numbers. Kernels
 * that execute `syscall` themselves have no such page.
 * Source: Xen, init_hypercall_page and pv_ring3_init_hypercall_page of xen/arch/x86.
 */
import { __HYPERVISOR_iret } from '../xen/hypercalls.js';
import type { LinearMemory } from '../xen/memory.js';

const STUB = 32;
const INT3 = 0xcc;
const PUSH_RCX_R11 = [0x51, 0x41, 0x53];
const PUSH_RAX = 0x50;
const MOV_EAX = 0xb8;
const SYSCALL = [0x0f, 0x05];
const POP_R11_RCX_RET = [0x41, 0x5b, 0x59, 0xc3];

/** Writes the page at linear address `at`. */
export function writeHypercallPage(mem: LinearMemory, at: number): void {
  const page = mem.bytes(at, 4096);
  page.fill(INT3);
  for (let number = 0; number < 4096 / STUB; number++) {
    const load = [MOV_EAX, number, 0, 0, 0, ...SYSCALL];
    // iret takes its frame from the stack and does not return.
    const stub =
      number === __HYPERVISOR_iret
        ? [...PUSH_RCX_R11, PUSH_RAX, ...load]
        : [...PUSH_RCX_R11, ...load, ...POP_R11_RCX_RET];
    page.set(stub, number * STUB);
  }
}
