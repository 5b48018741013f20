# NOT_A_SLOT: the slot would be in the text itself.
        .byte 0xff, 0x25, 0, 0, 0, 0, 0xcc, 0xcc
        ret
