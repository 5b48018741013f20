# BREAKPOINT: with its first byte it may have been anything.
        int3
        .byte 0x25
        .long 0x7000000 - 6
        int3
        int3
        ret
