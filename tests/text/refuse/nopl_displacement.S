# NOT_A_HOOK: the NOP of the same length with another displacement is not ours.
        .byte 0x0f, 0x1f, 0x84, 0, 1, 0, 0, 0
        ret
