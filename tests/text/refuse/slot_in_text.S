# NOT_A_SLOT: the slot would be executable.
        .byte 0xff, 0x25
        .long 0x1008 - 6
        int3
        int3
        ret
