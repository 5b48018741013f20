        jmp .+0x1000
        int3
        int3
        int3
        ret
