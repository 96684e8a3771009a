// A kernel on a bare PC: it is entered by PVH (Xen's docs/misc/pvh.pandoc: 32 bits, no paging), switches to 64 bits
// with paging and runs `kernel(N)` between two rdtsc. It writes raw bytes to the debug console: 'S' before, 'E' after,
// then its result and the difference of the two time stamps, 8 bytes each. Then it halts.
        .section .note.pvh, "a", @note
        .long   4, 4, 18
        .asciz  "Xen"
        .long   start

        .text
        .code32
        .globl  start
start:  movl    $stack, %esp
        // One table of 2 MiB pages maps the first GiB.
        movl    $l3 + 3, l4
        movl    $l2 + 3, l3
        movl    $0x83, %eax
        movl    $l2, %edi
1:      movl    %eax, (%edi)
        addl    $0x200000, %eax
        addl    $8, %edi
        cmpl    $l2 + 4096, %edi
        jne     1b
        movl    $l4, %eax
        movl    %eax, %cr3
        movl    $0x20, %eax             // CR4.PAE
        movl    %eax, %cr4
        movl    $0xc0000080, %ecx       // EFER.LME
        rdmsr
        orl     $0x100, %eax
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000000, %eax       // CR0.PG
        movl    %eax, %cr0
        lgdt    pointer
        ljmp    $8, $long
        .code64
long:   movl    $16, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movb    $'S', %al
        outb    %al, $0xe9
        rdtsc
        shlq    $32, %rdx
        leaq    (%rax,%rdx), %r12
        movq    %r12, before
        movl    $N, %edi
        call    kernel
        movq    %rax, result
        rdtsc
        shlq    $32, %rdx
        addq    %rdx, %rax
        subq    before, %rax
        movq    %rax, result + 8
        movb    $'E', %al
        outb    %al, $0xe9
        movl    $result, %esi
        movl    $16, %ecx
        movl    $0xe9, %edx
        rep outsb
2:      hlt
        jmp     2b
        .balign 8
gdt:    .quad   0, 0x00af9a000000ffff, 0x00cf92000000ffff
pointer:
        .word   23
        .long   gdt

        .bss
        .balign 4096
l4:     .skip   4096
l3:     .skip   4096
l2:     .skip   4096
before: .skip   8
result: .skip   16
        .balign 16
        .skip   16384
stack:
        .section .note.GNU-stack, "", @progbits
