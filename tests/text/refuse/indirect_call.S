# NOT_A_HOOK: a call through the slot.
        .byte 0xff, 0x15
        .long 0x2000 - 6
        int3
        int3
        ret
