# An entry of an extension that was built with prologue = "slot".
        .byte 0xff, 0x25
        .long 0x2000 - 6                            # jmp *slot(%rip), counted from its end
        int3
        int3
        mov $1, %eax
        ret
