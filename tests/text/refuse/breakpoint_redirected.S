# BREAKPOINT: gdb stands on a redirected entry.
        int3
        .byte 0, 1, 0, 0, 0xcc, 0xcc, 0xcc
        ret
