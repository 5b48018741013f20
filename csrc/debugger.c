/* debugger.c: tells debuggers about code that no file on disk holds, through the interface that gdb and lldb know.
 *
 *   __jit_debug_descriptor --> entry --> entry --> ...
 *                                |
 *                                v
 *                     | ELF header | .symtab | .strtab | .eh_frame | section names | section headers |
 *                                                                    .text: NOBITS, at its address
 *
 *   __jit_debug_register_code()    the debugger has a breakpoint here, and reads the descriptor when it is hit
 *
 * A generation that has debug information gives its own file (genfile.h); what is drawn here is made for stubs, and for
 * patches without. A debugger that attaches later walks the list. Without one this costs an empty call.
 *
 * Context: stage and unstage. Memory is allocated before the lock is taken.
 */
#include "internal.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Names, layout and visibility to a debugger are given by gdb's documentation. */
enum { JIT_NOACTION, JIT_REGISTER, JIT_UNREGISTER };

struct jit_code_entry {
    struct jit_code_entry *next_entry, *prev_entry;
    const char *symfile_addr;
    uint64_t symfile_size;
};

struct jit_descriptor {
    uint32_t version, action_flag;
    struct jit_code_entry *relevant_entry, *first_entry;
};

struct hr_debugger {
    struct jit_code_entry entry;
    void *view; /* NULL: the file is here */
    size_t view_len;
    uint8_t file[];
};

extern struct jit_descriptor __jit_debug_descriptor;
void __jit_debug_register_code(void);

__attribute__((visibility("hidden"))) struct jit_descriptor __jit_debug_descriptor = {.version = 1};

__attribute__((visibility("hidden"), noinline)) void __jit_debug_register_code(void) {
    __asm__ volatile("" ::: "memory");
}

enum { TEXT = 1, FRAMES, SYMBOLS, STRINGS, NAMES, SECTION_COUNT };

static const char section_names[] = "\0.text\0.eh_frame\0.symtab\0.strtab\0.shstrtab";
enum { NAME_TEXT = 1, NAME_FRAMES = 7, NAME_SYMBOLS = 17, NAME_STRINGS = 25, NAME_NAMES = 33 };

struct content {
    uintptr_t address, frames;
    uint64_t len, frames_len;
    const struct hr_debugger_symbol *symbols;
    size_t count;
};

struct parts {
    uint64_t symbols, strings, frames, names, sections, len;
};

static struct parts lay_out(const struct content *content) {
    struct parts parts = {.symbols = sizeof(Elf64_Ehdr)};
    parts.strings = parts.symbols + (content->count + 1) * sizeof(Elf64_Sym);
    parts.frames = parts.strings + 1;
    for (size_t i = 0; i < content->count; i++)
        parts.frames += strlen(content->symbols[i].name) + 1;
    parts.frames = (parts.frames + 7) & ~UINT64_C(7);
    parts.names = parts.frames + content->frames_len;
    parts.sections = (parts.names + sizeof section_names + 7) & ~UINT64_C(7);
    parts.len = parts.sections + SECTION_COUNT * sizeof(Elf64_Shdr);
    return parts;
}

static void write_header(const struct parts *parts, uint8_t *file) {
    Elf64_Ehdr header = {
        .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_EXEC,
        .e_machine = EM_X86_64,
        .e_version = EV_CURRENT,
        .e_shoff = parts->sections,
        .e_ehsize = sizeof header,
        .e_shentsize = sizeof(Elf64_Shdr),
        .e_shnum = SECTION_COUNT,
        .e_shstrndx = NAMES,
    };
    memcpy(file, &header, sizeof header);
}

static void write_symbols(const struct content *content, const struct parts *parts, uint8_t *file) {
    uint64_t string = 1;
    for (size_t i = 0; i < content->count; i++) {
        const struct hr_debugger_symbol *from = &content->symbols[i];
        Elf64_Sym symbol = {
            .st_name = (Elf64_Word)string,
            .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
            .st_shndx = TEXT,
            .st_value = from->address,
            .st_size = from->len,
        };
        memcpy(file + parts->symbols + (i + 1) * sizeof symbol, &symbol, sizeof symbol);
        size_t len = strlen(from->name) + 1;
        memcpy(file + parts->strings + string, from->name, len);
        string += len;
    }
}

static void write_sections(const struct content *content, const struct parts *parts, uint8_t *file) {
    Elf64_Shdr sections[SECTION_COUNT] = {
        [TEXT] = {.sh_name = NAME_TEXT,
                  .sh_type = SHT_NOBITS,
                  .sh_flags = SHF_ALLOC | SHF_EXECINSTR,
                  .sh_addr = content->address,
                  .sh_offset = parts->symbols,
                  .sh_size = content->len,
                  .sh_addralign = 16},
        [FRAMES] = {.sh_name = NAME_FRAMES,
                    .sh_type = content->frames ? SHT_PROGBITS : SHT_NULL,
                    .sh_flags = SHF_ALLOC,
                    .sh_addr = content->frames,
                    .sh_offset = parts->frames,
                    .sh_size = content->frames_len,
                    .sh_addralign = 8},
        [SYMBOLS] = {.sh_name = NAME_SYMBOLS,
                     .sh_type = SHT_SYMTAB,
                     .sh_offset = parts->symbols,
                     .sh_size = parts->strings - parts->symbols,
                     .sh_link = STRINGS,
                     .sh_info = 1,
                     .sh_addralign = 8,
                     .sh_entsize = sizeof(Elf64_Sym)},
        [STRINGS] = {.sh_name = NAME_STRINGS,
                     .sh_type = SHT_STRTAB,
                     .sh_offset = parts->strings,
                     .sh_size = parts->frames - parts->strings,
                     .sh_addralign = 1},
        [NAMES] = {.sh_name = NAME_NAMES,
                   .sh_type = SHT_STRTAB,
                   .sh_offset = parts->names,
                   .sh_size = sizeof section_names,
                   .sh_addralign = 1},
    };
    memcpy(file + parts->names, section_names, sizeof section_names);
    memcpy(file + parts->sections, sections, sizeof sections);
}

static void tell(struct jit_code_entry *entry, uint32_t action) {
    __jit_debug_descriptor.relevant_entry = entry;
    __jit_debug_descriptor.action_flag = action;
    __jit_debug_register_code();
    __jit_debug_descriptor.action_flag = JIT_NOACTION;
    __jit_debug_descriptor.relevant_entry = NULL;
}

static void publish(struct hr_debugger *debugger, const void *file, size_t len) {
    struct jit_code_entry *entry = &debugger->entry;
    entry->symfile_addr = file;
    entry->symfile_size = len;
    hr_lock();
    entry->next_entry = __jit_debug_descriptor.first_entry;
    if (entry->next_entry)
        entry->next_entry->prev_entry = entry;
    __jit_debug_descriptor.first_entry = entry;
    tell(entry, JIT_REGISTER);
    hr_unlock();
}

struct hr_debugger *hr_debugger_open(uintptr_t address, uint64_t len, uintptr_t frames, uint64_t frames_len,
                                     const struct hr_debugger_symbol *symbols, size_t count) {
    struct content content = {address, frames, len, frames_len, symbols, count};
    struct parts parts = lay_out(&content);
    struct hr_debugger *debugger = calloc(1, sizeof *debugger + parts.len);
    if (!debugger)
        return NULL;
    write_header(&parts, debugger->file);
    write_symbols(&content, &parts, debugger->file);
    if (frames)
        memcpy(debugger->file + parts.frames, (const void *)frames, frames_len);
    write_sections(&content, &parts, debugger->file);
    publish(debugger, debugger->file, parts.len);
    return debugger;
}

struct hr_debugger *hr_debugger_open_file(void *file, size_t len) {
    struct hr_debugger *debugger = calloc(1, sizeof *debugger);
    if (!debugger) {
        munmap(file, hr_page_up(len));
        return NULL;
    }
    debugger->view = file;
    debugger->view_len = len;
    publish(debugger, file, len);
    return debugger;
}

static void withdraw(struct hr_debugger *debugger) {
    if (!debugger)
        return;
    struct jit_code_entry *entry = &debugger->entry;
    hr_lock();
    if (entry->prev_entry)
        entry->prev_entry->next_entry = entry->next_entry;
    else
        __jit_debug_descriptor.first_entry = entry->next_entry;
    if (entry->next_entry)
        entry->next_entry->prev_entry = entry->prev_entry;
    tell(entry, JIT_UNREGISTER);
    hr_unlock();
    if (debugger->view)
        munmap(debugger->view, hr_page_up(debugger->view_len));
    free(debugger);
}

/* gdb looks at its breakpoints anew when it is told of code, not when code goes. Were the next generation mapped where
 * this one was, gdb would take the breakpoint for one that is still inserted. So it is told of code of no length. */
void hr_debugger_close(struct hr_debugger *debugger) {
    if (!debugger)
        return;
    withdraw(debugger);
    withdraw(hr_debugger_open(0, 0, 0, 0, NULL, 0));
}
