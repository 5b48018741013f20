"""Tiny libraries and tiny patches, made with gcc, ld and objcopy: the core is tested without the patch builder.

A *base* is a shared library whose marked functions begin with a hook prologue. A *patch* is a shared library of
which only the segments are used; its link table is written by hand or derived here, in the simplest way that is
right for code compiled with ``-fPIC``: whatever the linker left to the loader becomes a fixup.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from elftools.elf.elffile import ELFFile

from hotreload.build import slots
from hotreload.build.prologue import finish_entries
from hotreload.elf.edit import Editor
from hotreload.elf.file import ElfFile
from hotreload.errors import HotReloadError
from hotreload.live.core import NativeCore
from hotreload.patch.linktable import Carried, Fixup, FixupKind, Function, Import, LinkTable, Protection, Range, Segment

ROOT = Path(__file__).resolve().parents[2]
PAGE = 4096

#: The bases are built so that their functions are redirected in this way.
PROLOGUE = os.environ.get("HOTRELOAD_PROLOGUE", "jump")

#: Marks a patchable function in the C of these tests.
PRELUDE = """
#define HOOK __attribute__((ms_hook_prologue, aligned(16), noinline, noclone, noipa))
"""

R_64, R_GLOB_DAT, R_JUMP_SLOT, R_RELATIVE = 1, 6, 7, 8
R_DTPMOD64, R_DTPOFF64, R_TPOFF64, R_IRELATIVE = 16, 17, 18, 37

_unique = itertools.count()


def run(*command: object) -> str:
    """Runs a tool; its output is in the failure when it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def page_up(n: int) -> int:
    return (n + PAGE - 1) // PAGE * PAGE


# Bases -----------------------------------------------------------------------------------------------------------


@dataclass
class TinyBase:
    """A base, loaded into this process."""

    path: Path
    library: ctypes.CDLL
    symbols: dict[str, int]
    build_id: bytes
    bias: int

    def address(self, name: str) -> int:
        return self.bias + self.symbols[name]

    def function(self, name: str, *argument_types: type, result: type = ctypes.c_long) -> ctypes._CFuncPtr:
        return ctypes.CFUNCTYPE(result, *argument_types)(self.address(name))

    def variable(self, name: str, kind: type = ctypes.c_long) -> ctypes.c_long:
        return kind.from_address(self.address(name))


def compile_base(folder: Path, source: str, *flags: str, compiler: str = "gcc", suffix: str = "c") -> Path:
    """Compiles a base under a name of its own, since the loader knows libraries by name."""
    stem = f"base{next(_unique)}"
    text, library = folder / f"{stem}.{suffix}", folder / f"{stem}.so"
    text.write_text(PRELUDE + source)
    command = [compiler, "-shared", "-fPIC", "-O1", "-g", "-Wl,--build-id", text, *flags]
    if PROLOGUE == "slot":
        (folder / f"{stem}.slots.o").write_bytes(slots.make_object(64))
        command += [folder / f"{stem}.slots.o", *slots.KEPT_BY]
    run(*command, "-o", library)
    if PROLOGUE == "slot":
        give_slots(library)
    return library


def give_slots(library: Path) -> None:
    """Has each marked function of a library jump through a slot, as the end of a hot link does."""
    elf = ElfFile.read(library)
    editor = Editor(elf)
    finish_entries(elf, editor, {symbol.name for symbol in elf.symbols}, slots.Slots(elf))
    library.write_bytes(editor.to_bytes())


def load_base(library: Path) -> TinyBase:
    handle = ctypes.CDLL(str(library))
    found = next(o for o in NativeCore().objects() if o.path == str(library))
    return TinyBase(library, handle, read_symbols(library), found.build_id, found.bias)


def make_base(folder: Path, source: str, *flags: str, compiler: str = "gcc", suffix: str = "c") -> TinyBase:
    return load_base(compile_base(folder, source, *flags, compiler=compiler, suffix=suffix))


def read_symbols(library: Path) -> dict[str, int]:
    with library.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        return {s.name: s["st_value"] for s in table.iter_symbols() if s.name and s["st_shndx"] != "SHN_UNDEF"}


def read_sizes(library: Path) -> dict[str, int]:
    with library.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        return {s.name: s["st_size"] for s in table.iter_symbols() if s["st_size"]}


# Patches ---------------------------------------------------------------------------------------------------------


@dataclass
class TinyPatch:
    """A patch that is not written yet: tests change the table, then ask for the bytes."""

    elf: Path
    symbols: dict[str, int]
    table: LinkTable
    raw_edits: dict[int, bytes] = field(default_factory=dict)

    def but(self, **changes: object) -> TinyPatch:
        return replace(self, table=replace(self.table, **changes))

    def to_bytes(self, blob: bytes | None = None) -> bytes:
        """The patch file. ``blob`` takes the place of the link table."""
        stem = self.elf.with_name(f"patch{next(_unique)}")
        table, plain, patch = stem.with_suffix(".table"), stem.with_suffix(".elf"), stem.with_suffix(".hotpatch")
        content = bytearray(self.elf.read_bytes())
        for offset, raw in self.raw_edits.items():
            content[offset : offset + len(raw)] = raw
        plain.write_bytes(content)
        table.write_bytes(self.table.to_bytes() if blob is None else blob)
        run("objcopy", "--add-section", f".hotreload.link={table}", plain, patch)
        return patch.read_bytes()


def link(folder: Path, source: str, *flags: str, compiler: str = "gcc", suffix: str = "c", ld: tuple = ()) -> Path:
    """Compiles and links the new code, undefined symbols left open."""
    stem = folder / f"new{next(_unique)}"
    text, object_file, library = (stem.with_suffix(s) for s in (f".{suffix}", ".o", ".so"))
    text.write_text(source if suffix == "s" else PRELUDE + source)
    run(compiler, "-c", "-fPIC", "-O1", *flags, text, "-o", object_file)
    # A zero word after the last unwind record, as the end that the unwinder looks for.
    end = stem.with_suffix(".end.o")
    run("sh", "-c", f"echo '.section .eh_frame,\"a\",@progbits; .long 0' | gcc -c -x assembler - -o {end}")
    run("ld", "-shared", "-z", "noexecstack", "--no-relax", *ld, object_file, end, "-o", library)
    return library


def make_patch(
    folder: Path,
    base: TinyBase,
    source: str,
    *flags: str,
    replaces: dict[str, str] | tuple[str, ...] = (),
    carried: tuple[str, ...] = (),
    **options: object,
) -> TinyPatch:
    """New code for a base. ``replaces`` maps functions of the base to those of the patch, or lists equal names."""
    elf = link(folder, source, *flags, **options)
    pairs = replaces if isinstance(replaces, dict) else {name: name for name in replaces}
    with elf.open("rb") as file:
        return _derive(ELFFile(file), elf, base, pairs, carried)


def _derive(elf: ELFFile, path: Path, base: TinyBase, pairs: dict[str, str], keys: tuple[str, ...]) -> TinyPatch:
    symbols = read_symbols(path)
    sizes = {s.name: (s["st_size"], s["st_info"]["type"]) for s in elf.get_section_by_name(".symtab").iter_symbols()}
    segments = _segments(elf)
    owned = tuple(Carried(f"unit:{k}", symbols[k], sizes[k][0], sizes[k][1] == "STT_FUNC") for k in keys)
    patch = TinyPatch(path, symbols, LinkTable(base.build_id, 0, segments, ()))
    fixups, imports = _bind(elf, base, patch, keys)
    frames = elf.get_section_by_name(".eh_frame")
    last = segments[-1]
    functions: list[Function] = []
    ranges: list[Range] = []
    bodies = read_sizes(base.path)
    for old, new in pairs.items():
        if old in base.symbols:
            pieces = [name for name in base.symbols if name in (old, f"{old}.cold")]
            ranges += [Range(len(functions), base.symbols[name], bodies[name]) for name in pieces]
            functions.append(Function(old, base.symbols[old], symbols[new]))
        else:
            functions.append(Function(old, keys.index(old), symbols[new], is_carried=True))
    return patch.but(
        image_len=page_up(last.image_off + last.mem_len),
        fixups=fixups,
        imports=imports,
        carried=owned,
        functions=tuple(functions),
        ranges=tuple(ranges),
        eh_frame=frames["sh_addr"] if frames else 0,
        eh_frame_len=frames["sh_size"] if frames else 0,
    )


def _segments(elf: ELFFile) -> tuple[Segment, ...]:
    segments = []
    for header in elf.iter_segments("PT_LOAD"):
        start = header["p_vaddr"] // PAGE * PAGE
        skipped = header["p_vaddr"] - start
        flags = header["p_flags"]
        prot = Protection((flags & 4 and 1) | (flags & 2 and 2) | (flags & 1 and 4))
        segments.append(
            Segment(
                start,
                header["p_memsz"] + skipped,
                header["p_offset"] - skipped,
                header["p_filesz"] + skipped,
                prot,
            )
        )
    return tuple(segments)


def _bind(
    elf: ELFFile, base: TinyBase, patch: TinyPatch, keys: tuple[str, ...]
) -> tuple[tuple[Fixup, ...], tuple[Import, ...]]:
    fixups: list[Fixup] = []
    imports: list[Import] = []
    for name in (".rela.dyn", ".rela.plt"):
        section = elf.get_section_by_name(name)
        table = section and elf.get_section(section["sh_link"])
        for relocation in section.iter_relocations() if section else ():
            symbol = table.get_symbol(relocation["r_info_sym"]) if relocation["r_info_sym"] else None
            fixup = _fixup(relocation, symbol, base, patch, keys, imports)
            if fixup:
                fixups.append(fixup)
    return tuple(fixups), tuple(imports)


def _fixup(relocation, symbol, base, patch, keys, imports) -> Fixup | None:
    kind, where, addend = relocation["r_info_type"], relocation["r_offset"], relocation["r_addend"]
    name = symbol.name if symbol else ""
    if kind == R_RELATIVE:
        return Fixup(where, FixupKind.IMAGE64, addend)
    if kind == R_IRELATIVE:
        return Fixup(where, FixupKind.IRELATIVE, addend)
    if kind in (R_DTPMOD64, R_TPOFF64, R_DTPOFF64) and name in base.symbols:
        if kind == R_DTPMOD64:
            return Fixup(where, FixupKind.BASE_DTPMOD)
        if kind == R_TPOFF64:
            return Fixup(where, FixupKind.BASE_TPOFF, base.symbols[name] + addend)
        # The offset in the base's block is known here: it is written, not fixed up.
        with patch.elf.open("rb") as file:
            offset = next(ELFFile(file).address_offsets(where))
        patch.raw_edits[offset] = (base.symbols[name] + addend).to_bytes(8, "little")
        return None
    if kind in (R_64, R_GLOB_DAT, R_JUMP_SLOT):
        if name in keys:
            return Fixup(where, FixupKind.CARRIED64, addend, keys.index(name))
        if name in base.symbols:
            return Fixup(where, FixupKind.BASE64, base.symbols[name] + addend)
        if name in patch.symbols:
            return Fixup(where, FixupKind.IMAGE64, patch.symbols[name] + addend)
    imports.append(Import(name, weak=symbol["st_info"]["bind"] == "STB_WEAK"))
    import_kind = {
        R_64: FixupKind.IMPORT64,
        R_GLOB_DAT: FixupKind.IMPORT64,
        R_JUMP_SLOT: FixupKind.IMPORT64,
        R_DTPMOD64: FixupKind.IMPORT_DTPMOD,
        R_DTPOFF64: FixupKind.IMPORT_DTPOFF,
        R_TPOFF64: FixupKind.IMPORT_TPOFF,
    }[kind]
    return Fixup(where, import_kind, addend, len(imports) - 1)


# Processes ---------------------------------------------------------------------------------------------------------


def maps() -> list[str]:
    """The memory map without what the reading of it changes."""
    return [line.rstrip() for line in open("/proc/self/maps")]


def leaves_no_mapping(action: Callable[[], object]) -> bool:
    """Whether the memory map after ``action`` is the one before; ``action`` can be repeated.

    The allocators of this process may take memory in between, and the reading of the map has them do it. So their
    kind of memory may be more after one time, but not after each of several, as what is left behind would be; and what
    is of any other kind may never.
    """
    for _ in range(8):
        before = maps()
        action()
        after = maps()
        if before == after:
            return True
        if any(not is_allocator_s(line) for line in {*before} ^ {*after}):
            return False
    return False


def is_allocator_s(line: str) -> bool:
    """Memory without a file and without a name, to be read and written: an arena of Python's or the heap."""
    _, protection, _, _, inode, *name = line.split(None, 5)
    return protection == "rw-p" and inode == "0" and name in ([], ["[heap]"])


def maps_at(address: int) -> str:
    """The protection of the mapping that holds an address, as in "r-xp"; empty when there is none."""
    for line in maps():
        start, end = (int(part, 16) for part in line.split(" ", 1)[0].split("-"))
        if start <= address < end:
            return line.split()[1]
    return ""


def child(
    source: str, *arguments: object, timeout: float = 60, ok: tuple[int, ...] = (0,), under: Sequence[str] = ()
) -> str:
    """Runs Python in a process of its own, ``under`` a tool, and returns what it printed; shows all of it when it fails."""
    done = subprocess.run(
        [*under, sys.executable, "-c", textwrap.dedent(source), *(str(a) for a in arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env={
            "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}",
            "PATH": os.environ["PATH"],
            "HOTRELOAD_PROLOGUE": PROLOGUE,
        },
    )
    assert done.returncode in ok, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def status_of(call: object, *arguments: object, **named: object) -> str:
    """The status with which a call is refused."""
    try:
        call(*arguments, **named)
    except HotReloadError as error:
        return str(error.fields["status"])
    return "nothing was refused"


# Raw memory --------------------------------------------------------------------------------------------------------

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

R, W, X = 1, 2, 4
MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE, MAP_FIXED_NOREPLACE = 0x01, 0x02, 0x20, 0x4000, 0x100000
MAP_FIXED = 0x10

NOPL = bytes.fromhex("0f1f840000000000")
LEA = bytes.fromhex("488da42400000000")


def map_memory(length: int, prot: int, address: int = 0, flags: int = MAP_PRIVATE | MAP_ANONYMOUS) -> int:
    """mmap; returns 0 when it fails."""
    got = libc.mmap(address, length, prot, flags | (MAP_FIXED_NOREPLACE if address else 0), -1, 0)
    return 0 if got in (None, 2**64 - 1) else got


def map_text(code: bytes, prot: int = R | X, address: int = 0, flags: int = MAP_PRIVATE | MAP_ANONYMOUS) -> int:
    """Executable memory that holds this code."""
    at = map_memory(page_up(len(code)), R | W, address, flags)
    assert at, os.strerror(ctypes.get_errno())
    ctypes.memmove(at, code, len(code))
    assert libc.mprotect(at, page_up(len(code)), prot) == 0
    return at


def map_parts(*parts: tuple[bytes, int], flags: int = MAP_PRIVATE) -> list[int]:
    """Pages of one file, as a library has them: each part is its content and its protection; their addresses."""
    fd = os.memfd_create("tiny")
    content = b"".join(raw.ljust(page_up(len(raw)), b"\xcc" if prot & X else b"\0") for raw, prot in parts)
    os.write(fd, content)
    start = map_memory(len(content), 0)
    found, offset = [], 0
    for raw, prot in parts:
        got = libc.mmap(start + offset, page_up(len(raw)), prot, flags | MAP_FIXED, fd, offset)
        assert got == start + offset, os.strerror(ctypes.get_errno())
        found.append(got)
        offset += page_up(len(raw))
    os.close(fd)
    return found


def slot_jump(entry: int, slot: int) -> bytes:
    """``jmp *slot(%rip)`` as the build writes it."""
    return b"\xff\x25" + (slot - entry - 6).to_bytes(4, "little", signed=True) + b"\xcc\xcc"


def map_slotted(count: int = 1, apart: int = 16, *, flags: int = MAP_PRIVATE) -> list[tuple[int, int]]:
    """Functions that return their index and jump through slots: the entry and the slot of each."""
    size = page_up(count * apart)
    text = bytearray(b"\xcc" * size)
    for i in range(count):
        one = slot_jump(i * apart, size + 8 * i) + returning(i)
        text[i * apart : i * apart + len(one)] = one
    code, data = map_parts((bytes(text), R | X), (bytes(8 * count), R | W), flags=flags)
    for i in range(count):
        write_word(data + 8 * i, code + i * apart + 8)
    return [(code + i * apart, data + 8 * i) for i in range(count)]


def read_word(address: int) -> int:
    """Eight bytes."""
    return ctypes.c_uint64.from_address(address).value


def write_word(address: int, value: int) -> None:
    """Eight bytes, which must be writable."""
    ctypes.c_uint64.from_address(address).value = value


def overwrite_data(address: int, raw: bytes) -> None:
    """Changes read-only data behind the core's back."""
    page = address // PAGE * PAGE
    assert libc.mprotect(page, PAGE, R | W) == 0
    ctypes.memmove(address, raw, len(raw))
    assert libc.mprotect(page, PAGE, R) == 0


def overwrite_text(address: int, raw: bytes, prot: int = R | X) -> None:
    """What a debugger would do: changes text behind the core's back."""
    page = address // PAGE * PAGE
    assert libc.mprotect(page, PAGE, R | W | X) == 0
    ctypes.memmove(address, raw, len(raw))
    assert libc.mprotect(page, PAGE, prot) == 0


def returning(number: int) -> bytes:
    """``mov $number, %eax; ret``"""
    return b"\xb8" + number.to_bytes(4, "little") + b"\xc3"


def call(address: int) -> int:
    return ctypes.CFUNCTYPE(ctypes.c_int)(address)()
