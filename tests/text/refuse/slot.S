# NOT_A_HOOK: a slot prologue, which this version does not redirect.
        .byte 0xff, 0x25, 0, 0, 0, 0, 0xcc, 0xcc
        ret
