# NOT_A_HOOK: lea that moves the stack pointer.
        .byte 0x48, 0x8d, 0xa4, 0x24, 8, 0, 0, 0
        ret
