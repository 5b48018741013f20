# NOT_A_HOOK: eight instructions, a thread may stand between them.
        .fill 8, 1, 0x90
        ret
