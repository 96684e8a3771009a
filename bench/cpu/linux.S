// A kernel as a static Linux program: `kernel(N)` between two calls of clock_gettime. Then it writes its result and the
// nanoseconds of processor time to standard output, 8 bytes each, raw. Between the two system calls there are seven
// instructions besides the kernel's own: FRAME in lib/cpu-program.ts.
        .globl  _start
_start: movl    $228, %eax
        movl    $2, %edi                // CLOCK_PROCESS_CPUTIME_ID
        leaq    before(%rip), %rsi
        syscall
        movl    $N, %edi
        call    kernel
        movq    %rax, %rbx
        movl    $228, %eax
        movl    $2, %edi
        leaq    after(%rip), %rsi
        syscall
        movq    after(%rip), %rax
        subq    before(%rip), %rax
        imulq   $1000000000, %rax
        addq    after+8(%rip), %rax
        subq    before+8(%rip), %rax
        movq    %rbx, result(%rip)
        movq    %rax, result+8(%rip)
        movl    $1, %eax
        movl    $1, %edi
        leaq    result(%rip), %rsi
        movl    $16, %edx
        syscall
        movl    $231, %eax
        xorl    %edi, %edi
        syscall
        .bss
        .balign 16
before: .skip   16
after:  .skip   16
result: .skip   16
        .section .note.GNU-stack, "", @progbits
