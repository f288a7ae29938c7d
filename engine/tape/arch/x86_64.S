# The tape interpreter, and the way home, for x86_64.
#
# The bytes of this file stand in x86_64.py; tests/tape compares the two.
# No instruction here touches the stack: %rsp stays the task's own, so a
# signal that arrives on the way home finds the stack it expects.
#
#   %rbx  the record being run (64 bytes: nr, flags, arg0..arg5, result)
#   %r13  socket to the engine, or -1: stop by a trap instead
#   %r14  mailbox: { record to run next or that ended the tape, rescue tape }
#
# record flags: 1 MAY_FAIL, 2 LAST, 4 COPY, 8 HOME

        .text
next:
        mov     (%rbx), %eax
        mov     4(%rbx), %ebp
        mov     8(%rbx), %rdi
        mov     16(%rbx), %rsi
        mov     24(%rbx), %rdx
        mov     32(%rbx), %r10
        mov     40(%rbx), %r8
        mov     48(%rbx), %r9
        test    $4, %bpl
        jnz     copy
        syscall
        mov     %rax, 56(%rbx)
        cmp     $-4095, %rax
        jae     failed
done:
        test    $8, %bpl
        jnz     home
        test    $2, %bpl
        jnz     stop
advance:
        add     $64, %rbx
        jmp     next
copy:                                   # *arg1 = *arg0 & arg2
        mov     (%rdi), %rax
        and     %rdx, %rax
        mov     %rax, (%rsi)
        mov     %rax, 56(%rbx)
        jmp     done
failed:
        test    $1, %bpl
        jnz     done
stop:
        test    %r13d, %r13d
        js      trap
        mov     %rbx, (%r14)            # sendto: a write could raise SIGPIPE
        mov     $44, %eax
        mov     %r13d, %edi
        mov     %r14, %rsi
        mov     $8, %edx
        mov     $0x4000, %r10d          # MSG_NOSIGNAL
        xor     %r8d, %r8d
        xor     %r9d, %r9d
        syscall
        xor     %eax, %eax              # read
        mov     %r13d, %edi
        mov     %r14, %rsi
        mov     $8, %edx
        syscall
        cmp     $8, %rax
        jne     rescue
        mov     (%r14), %rbx
        jmp     next
rescue:                                 # the engine is gone
        mov     8(%r14), %rbx
        jmp     next
trap:
        int3
        jmp     next

        .balign 8
boot:   syscall                         # mmap of the scratch area
home:
        lea     table(%rip), %rbx
        mov     $11, %eax               # munmap(scratch, length)
        mov     (%rbx), %rdi
        mov     8(%rbx), %rsi
        syscall
        mov     $14, %eax               # rt_sigprocmask(SIG_SETMASK, &mask, 0, 8)
        mov     $2, %edi
        lea     16(%rbx), %rsi
        xor     %edx, %edx
        mov     $8, %r10d
        syscall
        mov     24(%rbx), %al           # OF: 1 + 127 overflows, 0 + 127 does not
        add     $127, %al
        mov     25(%rbx), %ah
        sahf
        mov     32(%rbx), %r15
        mov     40(%rbx), %r14
        mov     48(%rbx), %r13
        mov     56(%rbx), %r12
        mov     64(%rbx), %rbp
        mov     80(%rbx), %r11
        mov     88(%rbx), %r10
        mov     96(%rbx), %r9
        mov     104(%rbx), %r8
        mov     112(%rbx), %rax
        mov     120(%rbx), %rcx
        mov     128(%rbx), %rdx
        mov     136(%rbx), %rsi
        mov     144(%rbx), %rdi
        mov     72(%rbx), %rbx
        jmp     *table+160(%rip)
        .balign 8
table:
