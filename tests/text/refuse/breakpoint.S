# BREAKPOINT: gdb or a uprobe stands on a NOP prologue.
        int3
        .byte 0x1f, 0x84, 0, 0, 0, 0, 0
        ret
