"""Every kind of fixup, checked in the mapped image against what it must come to; and TLS as threads see it."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path

import pytest
import tiny
from tiny import status_of

from hotreload.errors import StageError
from hotreload.live.core import Image, NativeCore
from hotreload.patch.linktable import Carried, Fixup, FixupKind, Import, Segment

BASE = """
long counter = 5;
__thread long unused_first = 1;
__thread long per_thread = 40;
long *where_per_thread(void) { return &per_thread; }
static long one(void) { return 11; }
static long two(void) { return 22; }
static void *choose(void) { return two; }
long chosen(void) __attribute__((ifunc("choose")));
void *where_two(void) { return two; }
void *where_one(void) { return one; }
HOOK long step(long n) { counter += n; return counter; }
"""

# An image of three segments: text, read-only data (as RELRO), writable data.
IMAGE = """
        .text
        .p2align 4
        .type code, @function
code:   movq field(%rip), %rax
        ret
        .p2align 4
        .type resolver, @function
resolver: leaq code(%rip), %rax
        ret
field32: .long 0x11111111
        .section .rodata, "a"
        .p2align 3
readonly: .quad 0x2222222222222222
        .data
        .p2align 3
field:  .quad 0x3333333333333333
guard:  .quad 0x4444444444444444
"""


@pytest.fixture
def base(tmp_path: Path) -> tiny.TinyBase:
    return tiny.make_base(tmp_path, BASE)


@pytest.fixture
def blank(tmp_path: Path, base: tiny.TinyBase) -> tiny.TinyPatch:
    return tiny.make_patch(tmp_path, base, IMAGE, suffix="s")


class Staged:
    """An image, and how to look into it."""

    def __init__(self, core: NativeCore, base: tiny.TinyBase, patch: tiny.TinyPatch, carried: tuple = ()) -> None:
        opened = core.open_base(str(base.path))
        self.image: Image = core.stage(core.open_patch(patch.to_bytes()), opened, list(carried), "test")
        self.symbols = patch.symbols

    def at(self, name: str) -> int:
        return self.image.address + self.symbols[name]

    def word(self, name: str = "field") -> int:
        return ctypes.c_int64.from_address(self.at(name)).value

    def half(self, name: str = "field32") -> int:
        return ctypes.c_int32.from_address(self.at(name)).value


def stage_one(core, base, patch, kind, addend=0, target=0, where="field", **table) -> Staged:
    fixup = Fixup(patch.symbols[where], kind, addend, target)
    staged = Staged(core, base, patch.but(fixups=(fixup,), **table))
    assert staged.word("guard") == 0x4444444444444444
    return staged


def test_image64_is_the_image_plus_addend(core, base, blank) -> None:
    staged = stage_one(core, base, blank, FixupKind.IMAGE64, 24)
    assert staged.word() == staged.image.address + 24


def test_base64_may_point_before_its_object(core, base, blank) -> None:
    staged = stage_one(core, base, blank, FixupKind.BASE64, base.symbols["counter"] - 8)
    assert staged.word() == base.address("counter") - 8


def test_base_pc32_is_relative_to_the_field(core, base, blank) -> None:
    staged = stage_one(core, base, blank, FixupKind.BASE_PC32, base.symbols["counter"] - 4, where="field32")
    assert staged.half() == base.address("counter") - 4 - staged.at("field32")


def test_base_pc64_is_relative_to_the_field(core, base, blank) -> None:
    staged = stage_one(core, base, blank, FixupKind.BASE_PC64, base.symbols["counter"])
    assert staged.word() == base.address("counter") - staged.at("field")


def test_import64_finds_what_the_process_has(core, base, blank) -> None:
    staged = stage_one(core, base, blank, FixupKind.IMPORT64, 3, imports=(Import("getpid"),))
    assert staged.word() == ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value + 3


def test_import64_takes_the_version_that_is_asked_for(core, base, blank) -> None:
    staged = stage_one(core, base, blank, FixupKind.IMPORT64, imports=(Import("memcpy", "GLIBC_2.2.5"),))
    other = stage_one(core, base, blank, FixupKind.IMPORT64, imports=(Import("memcpy", "GLIBC_2.14"),))
    assert staged.word() != other.word()
    refused = blank.but(imports=(Import("memcpy", "GLIBC_9.9"),))
    with pytest.raises(StageError, match=r"memcpy.*GLIBC_9\.9"):
        Staged(core, base, refused)


def test_a_weak_import_that_is_missing_is_zero_whatever_the_addend(core, base, blank) -> None:
    staged = stage_one(core, base, blank, FixupKind.IMPORT64, 3, imports=(Import("nobody_has_it", weak=True),))
    assert staged.word() == 0


@pytest.mark.parametrize("owner", [0, 0x7000])
def test_carried64_is_the_owner_or_this_image(core, base, blank, owner) -> None:
    mine = Carried("unit:guard", blank.symbols["guard"], 8, False)
    at_owner = base.bias + owner if owner else 0
    staged = Staged(
        core,
        base,
        blank.but(fixups=(Fixup(blank.symbols["field"], FixupKind.CARRIED64, 2, 0),), carried=(mine,)),
        (at_owner,),
    )
    assert staged.word() == (at_owner or staged.at("guard")) + 2


def test_carried_pc32_and_pc64_are_relative_to_the_field(core, base, blank) -> None:
    owner = base.address("counter")
    staged = Staged(
        core,
        base,
        blank.but(
            fixups=(
                Fixup(blank.symbols["field32"], FixupKind.CARRIED_PC32, -4, 0),
                Fixup(blank.symbols["field"], FixupKind.CARRIED_PC64, 1, 0),
            ),
            carried=(Carried("unit:x", blank.symbols["guard"], 8, False),),
        ),
        (owner,),
    )
    assert staged.half() == owner - 4 - staged.at("field32")
    assert staged.word() == owner + 1 - staged.at("field")


def test_base_dtpmod_is_the_base_s_module(core, base, blank) -> None:
    staged = stage_one(core, base, blank, FixupKind.BASE_DTPMOD)
    index = (ctypes.c_ulong * 2)(staged.word(), base.symbols["per_thread"])
    get_address = ctypes.CDLL(None).__tls_get_addr
    get_address.restype = ctypes.c_void_p
    assert get_address(index) == base.function("where_per_thread", result=ctypes.c_void_p)()


def thread_pointer() -> int:
    function = ctypes.CDLL(None).pthread_self
    function.restype = ctypes.c_void_p
    return function()  # glibc: the thread pointer itself


def test_base_tpoff_is_the_offset_from_the_thread_pointer(core, tmp_path, blank) -> None:
    static = tiny.make_base(tmp_path, BASE, "-ftls-model=initial-exec")
    patch = blank.but(build_id=static.build_id)
    staged = stage_one(core, static, patch, FixupKind.BASE_TPOFF, static.symbols["per_thread"])
    assert thread_pointer() + staged.word() == static.function("where_per_thread", result=ctypes.c_void_p)()


def test_base_dtpmod_without_thread_locals_is_refused(core, tmp_path, blank) -> None:
    plain = tiny.make_base(tmp_path, "HOOK long step(long n) { return n; }")
    patch = blank.but(build_id=plain.build_id, fixups=(Fixup(blank.symbols["field"], FixupKind.BASE_DTPMOD),))
    assert status_of(Staged, core, plain, patch) == "TLS"


@pytest.fixture
def provider(tmp_path: Path) -> tiny.TinyBase:
    """Another library, in the global scope, with a thread-local that the new code imports."""
    path = tiny.compile_base(
        tmp_path,
        f"__thread long pad = 1; __thread long imported_{tmp_path.name} = 9;"
        f"long *where_imported(void) {{ return &imported_{tmp_path.name}; }}",
    )
    ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    return tiny.load_base(path)


def test_import_dtpmod_and_dtpoff_find_the_library_that_has_it(core, base, blank, provider, tmp_path) -> None:
    name = f"imported_{tmp_path.name}"
    staged = Staged(
        core,
        base,
        blank.but(
            fixups=(
                Fixup(blank.symbols["field"], FixupKind.IMPORT_DTPMOD, 0, 0),
                Fixup(blank.symbols["readonly"], FixupKind.IMPORT_DTPOFF, 0, 0),
            ),
            imports=(Import(name),),
        ),
    )
    index = (ctypes.c_ulong * 2)(staged.word(), staged.word("readonly"))
    get_address = ctypes.CDLL(None).__tls_get_addr
    get_address.restype = ctypes.c_void_p
    assert get_address(index) == provider.function("where_imported", result=ctypes.c_void_p)()


def test_import_tpoff_needs_a_static_block(core, base, blank, provider, tmp_path) -> None:
    dynamic = blank.but(
        fixups=(Fixup(blank.symbols["field"], FixupKind.IMPORT_TPOFF, 0, 0),),
        imports=(Import(f"imported_{tmp_path.name}"),),
    )
    assert status_of(Staged, core, base, dynamic) == "TLS"


def test_import_tpoff_is_the_offset_from_the_thread_pointer(core, base, blank, tmp_path) -> None:
    name = f"static_{tmp_path.name}"
    path = tiny.compile_base(tmp_path, f"__thread long {name} = 9; long *where(void) {{ return &{name}; }}",
                             "-ftls-model=initial-exec")  # fmt: skip
    ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    owner = tiny.load_base(path)
    staged = stage_one(core, base, blank, FixupKind.IMPORT_TPOFF, imports=(Import(name),))
    assert thread_pointer() + staged.word() == owner.function("where", result=ctypes.c_void_p)()


def test_irelative_is_what_the_resolver_of_the_image_returns(core, base, blank) -> None:
    staged = stage_one(core, base, blank, FixupKind.IRELATIVE, blank.symbols["resolver"])
    assert staged.word() == staged.at("code")


def test_irelative_in_a_read_only_segment_leaves_it_read_only(core, base, blank) -> None:
    staged = stage_one(core, base, blank, FixupKind.IRELATIVE, blank.symbols["resolver"], where="readonly")
    assert staged.word("readonly") == staged.at("code")
    assert tiny.maps_at(staged.at("readonly")) == "r--p"


def test_irelative_in_text_is_refused(core, base, blank) -> None:
    patch = blank.but(fixups=(Fixup(blank.symbols["code"], FixupKind.IRELATIVE, blank.symbols["resolver"]),))
    assert status_of(Staged, core, base, patch) == "BAD_TABLE"


def test_base_ifunc64_is_what_the_resolver_of_the_base_returns(core, base, blank) -> None:
    staged = stage_one(core, base, blank, FixupKind.BASE_IFUNC64, base.symbols["choose"])
    assert staged.word() == base.function("where_two", result=ctypes.c_void_p)()


def test_base_ifunc_pc32_is_relative_to_the_field(core, base, blank) -> None:
    staged = stage_one(core, base, blank, FixupKind.BASE_IFUNC_PC32, -4, base.symbols["choose"], where="field32")
    assert staged.half() == base.function("where_two", result=ctypes.c_void_p)() - 4 - staged.at("field32")


def test_a_resolver_outside_the_base_s_text_is_refused(core, base, blank) -> None:
    patch = blank.but(fixups=(Fixup(blank.symbols["field"], FixupKind.BASE_IFUNC64, base.symbols["counter"]),))
    assert status_of(Staged, core, base, patch) == "BAD_TABLE"


def test_no_kind_is_without_a_test() -> None:
    text = Path(__file__).read_text()
    assert [kind.name for kind in FixupKind if f"FixupKind.{kind.name}" not in text] == []


def test_segments_get_their_own_protection_and_the_rest_is_closed(core, base, blank) -> None:
    first, *others = blank.table.segments
    last = others[-1]
    relro = Segment(tiny.page_up(last.image_off + last.mem_len) + tiny.PAGE, 100, 0, 0, first.prot)
    staged = Staged(
        core,
        base,
        blank.but(segments=(*blank.table.segments, relro), image_len=relro.image_off + tiny.PAGE, fixups=()),
    )
    for segment in (*blank.table.segments, relro):
        text = "".join(c if segment.prot & bit else "-" for c, bit in (("r", 1), ("w", 2), ("x", 4)))
        assert tiny.maps_at(staged.image.address + segment.image_off) == f"{text}p"
    assert tiny.maps_at(relro.image_off - tiny.PAGE + staged.image.address) == "---p"
    assert not any("rwx" in line for line in tiny.maps() if "hotreload" in line or "memfd" in line)


def test_memory_beyond_the_file_is_zero_and_writable(core, base, tmp_path) -> None:
    source = "static char big[100000]; HOOK long step(long n) { big[n] += 1; return big[n] * 1000 + big[n + 1]; }"
    patch = tiny.make_patch(tmp_path, base, source, replaces=("step",))
    staged = Staged(core, base, patch)
    step = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)(staged.at("step"))
    assert [step(70000), step(70000), step(69999)] == [1000, 2000, 1002]


# What code sees ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["global-dynamic", "initial-exec"])
def test_new_code_has_each_thread_s_own_copy_of_the_base_s_thread_locals(core, tmp_path, model) -> None:
    base = tiny.make_base(tmp_path, BASE, f"-ftls-model={model}")
    source = "extern __thread long per_thread; long bump(long n) { return per_thread += n; }"
    patch = tiny.make_patch(tmp_path, base, source, f"-ftls-model={model}", replaces={"step": "bump"})
    staged = Staged(core, base, patch)
    bump = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)(staged.at("bump"))
    where = base.function("where_per_thread", result=ctypes.POINTER(ctypes.c_long))
    seen: dict[int, tuple[int, int]] = {}

    def work(n: int) -> None:
        if n % 2:
            where().contents.value += 1000  # the base was here first
        for _ in range(10):
            bump(n)
        seen[n] = (bump(0), where().contents.value)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert seen == {n: (40 + 10 * n + 1000 * (n % 2),) * 2 for n in range(8)}
    assert bump(0) == 40
