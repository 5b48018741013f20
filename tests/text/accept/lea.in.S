# An entry that was marked in C: GCC's ms_hook_prologue.
        .byte 0x48, 0x8d, 0xa4, 0x24, 0, 0, 0, 0     # lea 0x0(%rsp),%rsp with a 32-bit displacement
        mov $1, %eax
        ret
