// The tape interpreter, and the way home, for aarch64.
//
// The bytes of this file stand in aarch64.py; tests/tape compares the two.
//
//   x19  the record being run (64 bytes: nr, flags, arg0..arg5, result)
//   x20  socket to the engine, or -1: stop by a trap instead
//   x21  mailbox: { record to run next or that ended the tape, rescue tape }
//
// record flags: 1 MAY_FAIL, 2 LAST, 4 COPY, 8 HOME

        .text
next:
        ldp     w8, w22, [x19]
        ldp     x0, x1, [x19, #8]
        ldp     x2, x3, [x19, #24]
        ldp     x4, x5, [x19, #40]
        tbnz    w22, #2, copy
        svc     #0
        str     x0, [x19, #56]
        cmn     x0, #4095
        b.hs    failed
done:
        tbnz    w22, #3, home
        tbnz    w22, #1, stop
        add     x19, x19, #64
        b       next
copy:                                   // *arg1 = *arg0 & arg2
        ldr     x3, [x0]
        and     x3, x3, x2
        str     x3, [x1]
        str     x3, [x19, #56]
        b       done
failed:
        tbnz    w22, #0, done
stop:
        tbnz    w20, #31, trap
        str     x19, [x21]
        mov     x8, #206                // sendto: a write could raise SIGPIPE
        mov     w0, w20
        mov     x1, x21
        mov     x2, #8
        mov     x3, #0x4000             // MSG_NOSIGNAL
        mov     x4, #0
        mov     x5, #0
        svc     #0
        mov     x8, #63                 // read
        mov     w0, w20
        mov     x1, x21
        mov     x2, #8
        svc     #0
        cmp     x0, #8
        b.ne    rescue
        ldr     x19, [x21]
        b       next
rescue:                                 // the engine is gone
        ldr     x19, [x21, #8]
        b       next
trap:
        brk     #0
        b       next

boot:   svc     #0                      // mmap of the scratch area
home:
        adr     x19, table
        ldp     x0, x1, [x19]
        mov     x8, #215                // munmap(scratch, length)
        svc     #0
        ldr     x9, [x19, #16]          // the frame, counted from the table
        add     x9, x19, x9
        mov     sp, x9
        mov     x8, #139                // rt_sigreturn: mask and registers at once
        svc     #0

        .balign 16
table:
