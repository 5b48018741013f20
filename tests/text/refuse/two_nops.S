# NOT_A_HOOK: two instructions of four bytes.
        nopl 0x0(%rax)
        nopl 0x0(%rax)
        ret
