# NOT_A_HOOK: an indirect jump with code behind it, as in a PLT.
        .byte 0xff, 0x25
        .long 0x2000 - 6
        nop
        nop
        ret
