/**
 * Parts of small kernels in assembly (tiny-guest.ts) that take events: several tests of the hypervisor use them. A kernel
 * has its callback at the label `onevent`, and VIRQ_DATA among its data.
 */

/** Reads the TSC into rax; rdx changes. */
export const NOW = 'rdtsc\nshl rdx, 32\nor rax, rdx\n';

/** Registers `label` as the callback for events and failsafe, and for syscalls. */
export const setCallbacks = (label = 'onevent'): string => `
    lea rdi, [${label}]
    lea rsi, [${label}]
    lea rdx, [${label}]
    mov eax, SET_CALLBACKS
    syscall
`;

/** Registers `onevent`, and binds the timer's VIRQ (VIRQ_TIMER, 0) of vCPU 0 to a port. */
export const TIMER_EVENTS = `
    ${setCallbacks()}
    lea rsi, [virq]
    mov edi, 1
    mov eax, EVENT_CHANNEL_OP
    syscall
`;

/** The argument of EVTCHNOP_bind_virq: virq, vcpu, and the port that Xen returns. */
export const VIRQ_DATA = 'virq: dd 0, 0, 0\n';

/** In a callback on vCPU 0: clears the pending events, so that the next one makes an upcall again. */
export const CLEAR_EVENTS = `
    mov byte [SHARED], 0
    mov qword [SHARED+8], 0
    mov qword [SHARED+2048], 0
`;

/** Leaves a callback with the stack as Xen left it: discards rcx and r11 from the frame, and returns by HYPERVISOR_iret. */
export const LEAVE_CALLBACK = `
    mov rcx, [rsp]
    mov r11, [rsp+8]
    add rsp, 16
    push 0
    push rcx
    push r11
    push rax
    mov eax, IRET
    syscall
`;
