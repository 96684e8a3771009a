/**
 * The first program of a helper domain (PID 1): a static ELF executable in assembly, with no library, no shell and no
 * configuration but lists of lines. In this order it
 *
 *   1. mounts /proc, /sys, /dev, /run and /tmp;
 *   2. loads the kernel modules that MODULES lists, and removes their files, because an initramfs is memory;
 *   3. writes the sysctls that SYSCTLS lists; brings the interface `lo` up;
 *   4. mounts the compressed image IMAGE at /stillpoint, if there is one;
 *   5. starts the program of PROGRAM, with /dev/hvc0 as its standard input and output, and a pipe as standard error;
 *   6. reaps processes, keeps the last 8 KiB that the program wrote to standard error, and passes on the two signals by
 *      which the kernel tells what dom0 asks for (below);
 *   7. after the program has ended, ends the domain with the reason that the program left in REASON.
 *
 * The kernel answers dom0's `poweroff` and `reboot` by starting /sbin/poweroff and /sbin/reboot. Both are names of this
 * file, which then only sends PID 1 a signal: SIGUSR2 for `poweroff`, SIGHUP for `reboot`. PID 1 sends the program the
 * same signal, but not before the program catches it: the default action would end the program.
 *
 * The domain ends by the hypercall SCHEDOP_shutdown, through /dev/xen/privcmd. Its reason is the decimal number in REASON (0 to 255) if the program
 * ended with status 0, else 3 (SHUTDOWN_crash). In the second case the last lines of standard error are written to
 * /dev/hvc0 and to the domain's xenstore node CRASH_NODE, where dom0 finds them. Outside Xen the reasons 0 and 1 become
 * reboot(2), and others the exit status of PID 1.
 *
 * Source: Xen, xen/include/public/sched.h, xen/include/public/io/xs_wire.h; Linux, include/uapi/xen/privcmd.h,
 * drivers/xen/manage.c, include/uapi/linux/loop.h, include/uapi/linux/sockios.h.
 */
import { executable } from '../asm/executable.js';

/** Each line is the path of a module's file and, after one blank, its parameters. They are loaded in this order. */
export const MODULES = '/etc/stillpoint/modules';
/** Each line is the path of a file, one blank, and what is written to the file. */
export const SYSCTLS = '/etc/stillpoint/sysctls';
/** Each line is one argument of the program; the first is its path. */
export const PROGRAM = '/etc/stillpoint/program';
/** Each line is NAME=VALUE: the program's whole environment. */
export const ENVIRONMENT = '/etc/stillpoint/environment';
/** A squashfs file system. */
export const IMAGE = '/stillpoint.squashfs';
/** Why the domain ends, as a decimal number. The program writes it before it ends with status 0. */
export const REASON = '/run/stillpoint/reason';
/** Relative to the domain's home in xenstore. */
export const CRASH_NODE = 'data/stillpoint/crash';

/** Bytes of one list; what is longer is cut off. */
const MAX_LIST = 0x4000;
/** Lines of one list. */
const MAX_LINES = 255;
/** Bytes of standard error that are kept. */
const LOG_BYTES = 0x2000;
/** Bytes of them that are told at the end. The payload of a xenstore message is at most 4096 bytes. */
const TOLD_BYTES = 3000;

const MS_NOSUID = 2;
const MS_NODEV = 4;
const MS_NOEXEC = 8;
const MS_RDONLY = 1;

interface Mount {
  readonly source: string;
  readonly target: string;
  readonly type: string;
  readonly flags: number;
  readonly data: string;
}

const MOUNTS: readonly Mount[] = [
  { source: 'proc', target: '/proc', type: 'proc', flags: MS_NOSUID | MS_NODEV | MS_NOEXEC, data: '' },
  { source: 'sys', target: '/sys', type: 'sysfs', flags: MS_NOSUID | MS_NODEV | MS_NOEXEC, data: '' },
  { source: 'dev', target: '/dev', type: 'devtmpfs', flags: MS_NOSUID | MS_NOEXEC, data: 'mode=755' },
  // A file system in memory may take half of it by default: these are for a few small files.
  {
    source: 'run',
    target: '/run',
    type: 'tmpfs',
    flags: MS_NOSUID | MS_NODEV | MS_NOEXEC,
    data: 'mode=755,size=8m',
  },
  {
    source: 'tmp',
    target: '/tmp',
    type: 'tmpfs',
    flags: MS_NOSUID | MS_NODEV | MS_NOEXEC,
    data: 'mode=1777,size=8m',
  },
];

const text = (label: string, words: string): string => `${label}: ascii ${JSON.stringify(words)}\ndb 0`;

/** Each entry is the addresses of source, target, type and data, and the flags. */
const mountTable = (mounts: readonly Mount[]): string =>
  [
    'mounts:',
    ...mounts.map((m, i) => `dq m${i}source, m${i}target, m${i}type, m${i}data, ${m.flags}`),
    'dq 0',
    ...mounts.flatMap((m, i) => [
      text(`m${i}source`, m.source),
      text(`m${i}target`, m.target),
      text(`m${i}type`, m.type),
      text(`m${i}data`, m.data),
    ]),
  ].join('\n');

const UNSTARTED = `stillpoint init: the program that ${PROGRAM} names cannot be started\n`;

// Registers of a routine's caller: rbx, rbp and r12 to r15 stay; r14 points to the variables all the time.
// A system call changes rax, rcx and r11.
const SOURCE = `
  V_PID = 0             ; of the program
  V_STATUS = 8          ; what wait4 gave for it
  V_ENDED = 16
  V_ASKED = 24          ; signals to pass on: bit 0 SIGUSR2, bit 1 SIGHUP
  V_SIGNALS = 32        ; the descriptor that gives signals
  V_PIPE = 40           ; the program's standard error: our end, the program's end
  V_LOGGED = 48         ; bytes in LOG
  V_REASON = 56
  V_MASK = 64
  V_POLL = 72           ; two struct pollfd
  V_SHUTDOWN = 96       ; struct sched_shutdown
  V_CALL = 104          ; struct privcmd_hypercall: op, five arguments
  V_SIGNAL = 256        ; struct signalfd_siginfo
  V_TERMIOS = 384
  V_IFREQ = 448
  LOG = 0x1000
  CHUNK = 0x4000
  LIST = 0x8000
  ARGUMENTS = 0x10000   ; addresses of lines
  VARIABLES = 0x11000
  LIST2 = 0x14000
  MESSAGE = 0x20000

  start:
    mov r14, bss
    mov eax, 39                   ; getpid
    syscall
    cmp rax, 1
    je first

  ; started as /sbin/poweroff, /sbin/halt or /sbin/reboot: the first letter after the last slash tells
    mov rsi, [rsp+8]
    mov rdi, rsi
  word:
    mov al, [rsi]
    test al, al
    jz named
    inc rsi
    cmp al, '/'
    jne word
    mov rdi, rsi
    jmp word
  named:
    mov esi, 12                   ; SIGUSR2
    cmp byte [rdi], 'p'
    je tell
    cmp byte [rdi], 'h'
    je tell
    mov esi, 1                    ; SIGHUP
    cmp byte [rdi], 'r'
    je tell
    mov edi, 2
    jmp exit
  tell:
    mov eax, 62                   ; kill
    mov edi, 1
    syscall
    mov rdi, rax
    neg rdi
  exit:
    mov eax, 60                   ; exit
    syscall

  first:
    ; signals wait until they are read: one that nobody handles is else lost for PID 1
    mov qword [r14+V_MASK], -1
    mov edi, 2                    ; SIG_SETMASK
    call mask
    lea rbx, [mounts]
  nextmount:
    mov rdi, [rbx]
    test rdi, rdi
    jz mounted
    mov rdi, [rbx+8]
    call makefolder
    mov rdi, [rbx]
    mov rsi, [rbx+8]
    mov rdx, [rbx+16]
    mov r8, [rbx+24]
    mov r10, [rbx+32]
    mov eax, 165                  ; mount
    syscall
    mov rdi, [rbx+8]
    lea rsi, [s_mount]
    call complain
    add rbx, 40
    jmp nextmount
  mounted:
    lea rdi, [s_run]
    call makefolder
    mov eax, 289                  ; signalfd4
    mov rdi, -1
    mov qword [r14+V_MASK], 0x10801  ; SIGHUP, SIGUSR2, SIGCHLD
    lea rsi, [r14+V_MASK]
    mov edx, 8
    mov r10d, 0x80000             ; SFD_CLOEXEC
    syscall
    mov [r14+V_SIGNALS], rax

  ; modules
    lea rdi, [s_modules]
    lea rsi, [r14+LIST]
    lea rdx, [r14+ARGUMENTS]
    call list
    lea rbx, [r14+ARGUMENTS]
  nextmodule:
    mov rdi, [rbx]
    test rdi, rdi
    jz loaded
    lea rbp, [s_empty]
    mov rsi, rdi
  moduleblank:
    mov al, [rsi]
    test al, al
    jz noparameters
    inc rsi
    cmp al, 32                    ; a blank
    jne moduleblank
    mov byte [rsi-1], 0
    mov rbp, rsi
  noparameters:
    xor esi, esi
    call open
    test eax, eax
    js unloaded
    mov r12, rax
    mov eax, 313                  ; finit_module
    mov edi, r12d
    mov rsi, rbp
    xor edx, edx
    syscall
    mov r13, rax
    mov edi, r12d
    call close
    mov eax, 87                   ; unlink
    mov rdi, [rbx]
    syscall
    mov rax, r13
    cmp rax, -17                  ; EEXIST: it is part of the kernel, or loaded
    jne unloaded
    xor eax, eax
  unloaded:
    mov rdi, [rbx]
    lea rsi, [s_module]
    call complain
    add rbx, 8
    jmp nextmodule
  loaded:

  ; sysctls
    lea rdi, [s_sysctls]
    lea rsi, [r14+LIST]
    lea rdx, [r14+ARGUMENTS]
    call list
    lea rbx, [r14+ARGUMENTS]
  nextsysctl:
    mov rbp, [rbx]
    test rbp, rbp
    jz set
  blank:
    mov al, [rbp]
    test al, al
    jz nosysctl                   ; a line without a blank is passed over
    inc rbp
    cmp al, 32                    ; a blank
    jne blank
    mov byte [rbp-1], 0
    mov rdi, [rbx]
    mov esi, 1                    ; O_WRONLY
    call open
    test eax, eax
    js unset
    mov r12, rax
    mov rdi, rbp
    call length
    mov rdx, rax
    mov rsi, rbp
    mov edi, r12d
    mov eax, 1                    ; write
    syscall
    mov r13, rax
    mov edi, r12d
    call close
    mov rax, r13
  unset:
    mov rdi, [rbx]
    lea rsi, [s_sysctl]
    call complain
  nosysctl:
    add rbx, 8
    jmp nextsysctl
  set:

  ; the interface lo
    mov eax, 41                   ; socket
    mov edi, 2                    ; AF_INET
    mov esi, 0x80002              ; SOCK_DGRAM, SOCK_CLOEXEC
    xor edx, edx
    syscall
    test eax, eax
    js noloopback
    mov r12, rax
    mov dword [r14+V_IFREQ], 0x6f6c  ; "lo"
    mov dword [r14+V_IFREQ+16], 1    ; IFF_UP
    mov eax, 16                   ; ioctl
    mov edi, r12d
    mov esi, 0x8914               ; SIOCSIFFLAGS
    lea rdx, [r14+V_IFREQ]
    syscall
    mov r13, rax
    mov edi, r12d
    call close
    mov rax, r13
  noloopback:
    lea rdi, [s_lo]
    lea rsi, [s_interface]
    call complain

  ; the image
    lea rdi, [s_image]
    xor esi, esi
    call open
    cmp rax, -2                   ; ENOENT
    je noimage
    test eax, eax
    js imagefailed
    mov r12, rax
    lea rdi, [s_loop]
    xor esi, esi
    call open
    test eax, eax
    js imagefailed
    mov edi, eax
    mov eax, 16                   ; ioctl
    mov esi, 0x4c00               ; LOOP_SET_FD
    mov edx, r12d
    syscall
    test eax, eax
    js imagefailed
    lea rdi, [s_stillpoint]
    call makefolder
    mov eax, 165                  ; mount
    lea rdi, [s_loop]
    lea rsi, [s_stillpoint]
    lea rdx, [s_squashfs]
    mov r10d, ${MS_RDONLY | MS_NOSUID | MS_NODEV}
    lea r8, [s_empty]
    syscall
  imagefailed:
    lea rdi, [s_image]
    lea rsi, [s_mount]
    call complain
  noimage:

  ; the program
    lea rdi, [s_program]
    lea rsi, [r14+LIST]
    lea rdx, [r14+ARGUMENTS]
    call list
    lea rdi, [s_environment]
    lea rsi, [r14+LIST2]
    lea rdx, [r14+VARIABLES]
    call list
    mov eax, 293                  ; pipe2
    lea rdi, [r14+V_PIPE]
    mov esi, 0x80000              ; O_CLOEXEC
    syscall
    mov eax, 72                   ; fcntl
    mov edi, [r14+V_PIPE]
    mov esi, 4                    ; F_SETFL
    mov edx, 0x800                ; O_NONBLOCK
    syscall
    mov eax, 57                   ; fork
    syscall
    test rax, rax
    jz child
    mov [r14+V_PID], rax
    mov edi, [r14+V_PIPE+4]
    call close

  ; until the program has ended
  wait:
    mov rax, [r14+V_SIGNALS]
    mov [r14+V_POLL], eax
    mov dword [r14+V_POLL+4], 1   ; POLLIN
    mov eax, [r14+V_PIPE]
    mov [r14+V_POLL+8], eax
    mov dword [r14+V_POLL+12], 1
    mov edx, -1
    cmp qword [r14+V_ASKED], 0
    je forever
    mov edx, 50                   ; ms until it is looked again whether the program catches the signal
  forever:
    mov eax, 7                    ; poll
    lea rdi, [r14+V_POLL]
    mov esi, 2
    syscall
    cmp word [r14+V_POLL+14], 0
    je nothingsaid
    call drain
  nothingsaid:
    test dword [r14+V_POLL+4], 0x10000
    jz nosignal
    xor eax, eax                  ; read
    mov rdi, [r14+V_SIGNALS]
    lea rsi, [r14+V_SIGNAL]
    mov edx, 128
    syscall
    mov eax, [r14+V_SIGNAL]
    cmp eax, 12
    jne notpoweroff
    or qword [r14+V_ASKED], 1
  notpoweroff:
    cmp eax, 1
    jne notreboot
    or qword [r14+V_ASKED], 2
  notreboot:
    call reap
  nosignal:
    cmp qword [r14+V_ENDED], 0
    jne ended
    mov r12d, 1
    mov r13d, 12
    call passon
    mov r12d, 2
    mov r13d, 1
    call passon
    jmp wait

  ; the program has ended
  ended:
    call drain
    mov qword [r14+V_REASON], 3   ; SHUTDOWN_crash
    cmp dword [r14+V_STATUS], 0
    jne crashed
    lea rdi, [s_reason]
    lea rsi, [r14+LIST]
    call slurp
    lea rsi, [r14+LIST]
    xor edx, edx
    xor ecx, ecx
  digit:
    mov al, [rsi]
    sub al, 48
    cmp al, 9
    ja nodigit
    movzx eax, al
    imul edx, edx, 10
    add edx, eax
    inc rsi
    inc ecx
    cmp ecx, 3
    jbe digit
    jmp unreadable
  nodigit:
    test ecx, ecx
    jz unreadable
    cmp edx, 255
    ja unreadable
    mov al, [rsi]
    test al, al
    jz readable
    cmp al, 10
    jne unreadable
  readable:
    mov [r14+V_REASON], rdx
    jmp finish
  unreadable:
    lea rsi, [s_noreason]
    call note
    jmp tellcrash
  crashed:
    mov eax, [r14+V_STATUS]
    test al, 127
    jnz bysignal
    shr eax, 8
    and eax, 255
    lea rsi, [s_status]
    jmp why
  bysignal:
    and eax, 127
    lea rsi, [s_signal]
  why:
    push rax
    call note
    pop rax
    call notenumber
    lea rsi, [s_line]
    call note
  tellcrash:
    call tellconsole
    call tellstore
    mov edx, 200                  ; ms in which the console's daemon takes what was written
    call pause

  ; what is written to disks reaches them, within ten seconds
  finish:
    mov eax, 57                   ; fork
    syscall
    test rax, rax
    jnz synced
    mov eax, 162                  ; sync
    syscall
    xor edi, edi
    jmp exit
  synced:
    mov r12, rax
    mov r13d, 1000
  syncing:
    mov eax, 61                   ; wait4
    mov rdi, r12
    lea rsi, [r14+V_STATUS]
    mov edx, 1                    ; WNOHANG
    xor r10d, r10d
    syscall
    test rax, rax
    jnz down
    mov edx, 10
    call pause
    dec r13d
    jnz syncing

  down:
    lea rdi, [s_privcmd]
    mov esi, 2                    ; O_RDWR
    call open
    test eax, eax
    js outside
    mov edi, eax
    mov rax, [r14+V_REASON]
    mov [r14+V_SHUTDOWN], eax
    mov qword [r14+V_CALL], 29    ; __HYPERVISOR_sched_op
    mov qword [r14+V_CALL+8], 2   ; SCHEDOP_shutdown
    lea rax, [r14+V_SHUTDOWN]
    mov [r14+V_CALL+16], rax
    mov eax, 16                   ; ioctl
    mov esi, 0x305000             ; IOCTL_PRIVCMD_HYPERCALL
    lea rdx, [r14+V_CALL]
    syscall
  outside:
    mov edx, 0x4321fedc           ; LINUX_REBOOT_CMD_POWER_OFF
    mov rax, [r14+V_REASON]
    test eax, eax
    jz reboot
    mov edx, 0x1234567            ; LINUX_REBOOT_CMD_RESTART
    cmp eax, 1
    jne leave
  reboot:
    mov eax, 169                  ; reboot
    mov edi, 0xfee1dead
    mov esi, 672274793
    syscall
  leave:
    mov rdi, [r14+V_REASON]
    jmp exit                      ; the kernel panics, which Xen is told as a crash

  ; in the new process
  child:
    mov qword [r14+V_MASK], 0
    mov edi, 2
    call mask
    mov eax, 112                  ; setsid
    syscall
    mov eax, 33                   ; dup2
    mov edi, [r14+V_PIPE+4]
    mov esi, 2
    syscall
    lea rdi, [s_console]
    mov esi, 0x102                ; O_RDWR, O_NOCTTY
    call open
    test eax, eax
    js noconsole
    mov ebx, eax
    mov edi, ebx
    call raw
    mov eax, 33
    mov edi, ebx
    xor esi, esi
    syscall
    mov eax, 33
    mov edi, ebx
    mov esi, 1
    syscall
  noconsole:
    mov rdi, [r14+ARGUMENTS]
    test rdi, rdi
    jz nocommand
    mov eax, 59                   ; execve
    lea rsi, [r14+ARGUMENTS]
    lea rdx, [r14+VARIABLES]
    syscall
  nocommand:
    mov eax, 1                    ; write
    mov edi, 2
    lea rsi, [s_unstarted]
    mov edx, ${UNSTARTED.length}
    syscall
    mov edi, 127
    jmp exit

  ; routines

  ; edi = how, the set in V_MASK
  mask:
    mov eax, 14                   ; rt_sigprocmask
    lea rsi, [r14+V_MASK]
    xor edx, edx
    mov r10d, 8
    syscall
    ret

  ; rdi = path, esi = flags -> rax; O_CLOEXEC is added
  open:
    mov eax, 2
    or esi, 0x80000
    xor edx, edx
    syscall
    ret

  close:
    mov eax, 3
    syscall
    ret

  makefolder:
    mov eax, 83                   ; mkdir
    mov esi, 493                  ; 0755
    syscall
    ret

  ; edx = milliseconds
  pause:
    mov eax, 7                    ; poll
    xor edi, edi
    xor esi, esi
    syscall
    ret

  ; edi = a terminal: bytes go through it as they are
  raw:
    push rdi
    mov eax, 16                   ; ioctl
    mov esi, 0x5401               ; TCGETS
    lea rdx, [r14+V_TERMIOS]
    syscall
    pop rdi
    test eax, eax
    js norawness
    mov dword [r14+V_TERMIOS], 0     ; c_iflag
    mov dword [r14+V_TERMIOS+4], 0   ; c_oflag
    mov dword [r14+V_TERMIOS+12], 0  ; c_lflag
    mov eax, 16
    mov esi, 0x5402               ; TCSETS
    lea rdx, [r14+V_TERMIOS]
    syscall
  norawness:
    ret

  ; rdi = text that ends with a zero byte -> rax
  length:
    mov rax, rdi
  longer:
    cmp byte [rax], 0
    je measured
    inc rax
    jmp longer
  measured:
    sub rax, rdi
    ret

  ; rdi = path, rsi = where to -> rax = bytes, at most MAX_LIST - 1; a zero byte follows
  slurp:
    push rbx
    push r12
    push r13
    mov r12, rsi
    xor r13d, r13d
    xor esi, esi
    call open
    test eax, eax
    js slurped
    mov ebx, eax
  readmore:
    xor eax, eax                  ; read
    mov edi, ebx
    lea rsi, [r12+r13]
    mov edx, ${MAX_LIST - 1}
    sub edx, r13d
    jz readall
    syscall
    test rax, rax
    jle readall
    add r13, rax
    jmp readmore
  readall:
    mov edi, ebx
    call close
  slurped:
    mov byte [r12+r13], 0
    mov rax, r13
    pop r13
    pop r12
    pop rbx
    ret

  ; rdi = path, rsi = where the text goes, rdx = where the addresses of its lines go; the last is 0. Empty lines do not count
  list:
    push rdx
    push rsi
    call slurp
    pop rsi
    pop rdx
    mov ecx, ${MAX_LINES}
  line:
    cmp byte [rsi], 0
    je listed
    cmp byte [rsi], 10
    je emptyline
    test ecx, ecx
    jz listed
    dec ecx
    mov [rdx], rsi
    add rdx, 8
  inline:
    mov al, [rsi]
    test al, al
    jz listed
    inc rsi
    cmp al, 10
    jne inline
    mov byte [rsi-1], 0
    jmp line
  emptyline:
    inc rsi
    jmp line
  listed:
    mov qword [rdx], 0
    ret

  ; rax = what a system call gave, rdi = what it was about, rsi = what failed: a line in LOG if it is an error
  complain:
    test eax, eax
    jns fine
    push rax
    push rdi
    call note
    pop rsi
    call note
    lea rsi, [s_errno]
    call note
    pop rax
    neg eax
    call notenumber
    lea rsi, [s_line]
    call note
  fine:
    ret

  ; rsi = text that ends with a zero byte, into LOG
  note:
    mov rdi, rsi
    call length
    mov rcx, rax
  ; rsi, rcx = at most LOG_BYTES bytes into LOG; the oldest give way
  append:
    mov rdx, [r14+V_LOGGED]
    lea rax, [rdx+rcx]
    sub rax, ${LOG_BYTES}
    jbe hasroom
    push rsi
    push rcx
    lea rdi, [r14+LOG]
    lea rsi, [rdi+rax]
    sub rdx, rax
    mov rcx, rdx
    rep movsb
    pop rcx
    pop rsi
  hasroom:
    lea rdi, [r14+LOG]
    add rdi, rdx
    add rdx, rcx
    mov [r14+V_LOGGED], rdx
    rep movsb
    ret

  ; eax as decimal digits, into LOG
  notenumber:
    lea rsi, [r14+CHUNK+32]
    mov byte [rsi], 0
    mov ecx, 10
  onedigit:
    xor edx, edx
    div ecx
    add dl, 48
    dec rsi
    mov [rsi], dl
    test eax, eax
    jnz onedigit
    jmp note

  ; what the program has written, into LOG. When nobody can write any more, our end is closed: it would be ready for ever
  drain:
    cmp dword [r14+V_PIPE], 0
    jl drained
    xor eax, eax                  ; read
    mov edi, [r14+V_PIPE]
    lea rsi, [r14+CHUNK]
    mov edx, 4096
    syscall
    test rax, rax
    js drained
    jz closed
    mov rcx, rax
    lea rsi, [r14+CHUNK]
    call append
    jmp drain
  closed:
    mov edi, [r14+V_PIPE]
    call close
    mov dword [r14+V_PIPE], -1
  drained:
    ret

  reap:
    mov eax, 61                   ; wait4
    mov rdi, -1
    lea rsi, [r14+V_SIGNAL]
    mov edx, 1                    ; WNOHANG
    xor r10d, r10d
    syscall
    test rax, rax
    jle reaped
    cmp rax, [r14+V_PID]
    jne reap
    mov eax, [r14+V_SIGNAL]
    mov [r14+V_STATUS], rax
    mov qword [r14+V_ENDED], 1
    jmp reap
  reaped:
    ret

  ; r12 = bit of V_ASKED, r13 = signal: sent if it is asked for and the program catches it (/proc/PID/status, SigCgt)
  passon:
    test [r14+V_ASKED], r12
    jz passed
    lea rdi, [r14+CHUNK]
    lea rsi, [s_proc]
    call put
    mov rax, [r14+V_PID]
    call putnumber
    lea rsi, [s_procstatus]
    call put
    mov byte [rdi], 0
    lea rdi, [r14+CHUNK]
    lea rsi, [r14+LIST]
    call slurp
    lea rsi, [r14+LIST]
  seek:
    cmp byte [rsi], 0
    je passed
    inc rsi
    cmp dword [rsi-1], 0x43676953  ; "SigC"
    jne seek
    cmp dword [rsi+3], 0x093a7467  ; "gt:" and a tabulator
    jne seek
    add rsi, 7
    xor edx, edx
  hexdigit:
    movzx eax, byte [rsi]
    inc rsi
    cmp al, 'a'
    jb decimaldigit
    sub al, 39
  decimaldigit:
    sub al, 48
    cmp al, 15
    ja caught
    shl rdx, 4
    or rdx, rax
    jmp hexdigit
  caught:
    lea ecx, [r13-1]
    shr rdx, cl
    test dl, 1
    jz passed
    xor [r14+V_ASKED], r12
    mov eax, 62                   ; kill
    mov rdi, [r14+V_PID]
    mov rsi, r13
    syscall
  passed:
    ret

  ; text at rsi, to rdi
  put:
    mov al, [rsi]
    test al, al
    jz isput
    mov [rdi], al
    inc rsi
    inc rdi
    jmp put
  isput:
    ret

  ; rax in decimal digits, to rdi
  putnumber:
    xor edx, edx
    mov ecx, 10
    div rcx
    push rdx
    test rax, rax
    jz lastdigit
    call putnumber
  lastdigit:
    pop rdx
    add dl, 48
    mov [rdi], dl
    inc rdi
    ret

  ; -> rsi, rdx = the end of LOG
  logend:
    mov rdx, [r14+V_LOGGED]
    lea rsi, [r14+LOG]
    mov rax, rdx
    sub rax, ${TOLD_BYTES}
    jbe allofit
    add rsi, rax
    mov edx, ${TOLD_BYTES}
  allofit:
    ret

  ; the end of LOG to the console, which nobody may be reading: two seconds are the limit
  tellconsole:
    lea rdi, [s_console]
    mov esi, 0x902                ; O_RDWR, O_NOCTTY, O_NONBLOCK
    call open
    test eax, eax
    js untold
    mov ebp, eax
    call logend
    mov r12, rsi
    mov r13, rdx
    mov ebx, 100
  moretold:
    mov eax, 1                    ; write
    mov edi, ebp
    mov rsi, r12
    mov rdx, r13
    syscall
    test rax, rax
    js later
    add r12, rax
    sub r13, rax
    jz told
  later:
    mov edx, 20
    call pause
    dec ebx
    jnz moretold
  told:
    mov edi, ebp
    call close
  untold:
    ret

  ; the end of LOG to xenstore; the answer, which nothing depends on, is waited for a second at most
  tellstore:
    lea rdi, [s_xenbus]
    mov esi, 2                    ; O_RDWR
    call open
    test eax, eax
    js nostore
    mov ebp, eax
    lea rdi, [r14+MESSAGE]
    mov dword [rdi], 11           ; XS_WRITE
    add rdi, 16
    lea rsi, [s_node]
    call put
    inc rdi
    call logend
    mov rcx, rdx
    rep movsb
    lea rsi, [r14+MESSAGE]
    mov rdx, rdi
    sub rdx, rsi
    lea eax, [rdx-16]
    mov [rsi+12], eax
    mov eax, 1                    ; write
    mov edi, ebp
    syscall
    mov [r14+V_POLL], ebp
    mov dword [r14+V_POLL+4], 1
    mov eax, 7                    ; poll
    lea rdi, [r14+V_POLL]
    mov esi, 1
    mov edx, 1000
    syscall
  nostore:
    ret

  align 8
  ${mountTable(MOUNTS)}
  ${text('s_run', '/run/stillpoint')}
  ${text('s_modules', MODULES)}
  ${text('s_sysctls', SYSCTLS)}
  ${text('s_program', PROGRAM)}
  ${text('s_environment', ENVIRONMENT)}
  ${text('s_image', IMAGE)}
  ${text('s_reason', REASON)}
  ${text('s_node', CRASH_NODE)}
  ${text('s_loop', '/dev/loop0')}
  ${text('s_stillpoint', '/stillpoint')}
  ${text('s_squashfs', 'squashfs')}
  ${text('s_console', '/dev/hvc0')}
  ${text('s_xenbus', '/dev/xen/xenbus')}
  ${text('s_privcmd', '/dev/xen/privcmd')}
  ${text('s_proc', '/proc/')}
  ${text('s_procstatus', '/status')}
  ${text('s_lo', 'lo')}
  ${text('s_mount', 'stillpoint init: cannot mount ')}
  ${text('s_module', 'stillpoint init: cannot load ')}
  ${text('s_sysctl', 'stillpoint init: cannot write ')}
  ${text('s_interface', 'stillpoint init: cannot bring up ')}
  ${text('s_errno', ': errno ')}
  ${text('s_status', 'stillpoint init: the program ended with status ')}
  ${text('s_signal', 'stillpoint init: the program was ended by signal ')}
  ${text('s_noreason', `stillpoint init: the program left no reason from 0 to 255 in ${REASON}\n`)}
  ${text('s_line', '\n')}
  ${text('s_unstarted', UNSTARTED)}
  s_empty: db 0
`;

/** The size of variables and buffers, in bytes. */
const BSS_BYTES = 0x24000;

/** The executable file. It is /init, /sbin/poweroff, /sbin/halt and /sbin/reboot of a helper domain. */
export const initElf = (): Uint8Array => executable(SOURCE, BSS_BYTES);
