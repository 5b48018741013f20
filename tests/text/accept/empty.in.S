# A function whose body is one byte.
        .byte 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0       # nopl 0x0(%rax,%rax,1) with a 32-bit displacement
        ret
