# NOT_A_HOOK: an ordinary function.
        push %rbp
        mov %rsp, %rbp
        pop %rbp
        ret
        nop
        nop
