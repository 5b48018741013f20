# NOT_A_HOOK: a jump with code behind it, not ours.
        .byte 0xe9, 0, 0, 0, 0, 0x90, 0x90, 0x90
        ret
