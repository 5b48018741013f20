# REDIRECTED: the slot is there and holds something else than the address of the body.
        .byte 0xff, 0x25
        .long 0x2008 - 6
        int3
        int3
        ret
