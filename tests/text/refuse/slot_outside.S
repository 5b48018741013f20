# NOT_A_SLOT: memory that is not of this file.
        .byte 0xff, 0x25
        .long 0x7000000 - 6
        int3
        int3
        ret
