# NOT_A_SLOT: a store to it would not be one.
        .byte 0xff, 0x25
        .long 0x2004 - 6
        int3
        int3
        ret
