# NOT_A_HOOK: with a prefix it is another instruction.
        .byte 0x3e, 0xff, 0x25
        .long 0x2000 - 7
        int3
        ret
