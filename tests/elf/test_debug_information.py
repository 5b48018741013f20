"""The scanner of debug information finds what pyelftools finds: functions, their lines, and their static variables."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from elftools.elf.elffile import ELFFile

from hotreload.elf.debug import DebugInfo, StaticLocal
from hotreload.elf.file import SHF_WRITE, STT_OBJECT, ElfFile

C = """
static int file_scope = 3;
static inline int counted(int x) { static int calls; calls += x; return calls; }
int nested(int x)
{
    static int n = 1;
    if (x) { static int n = 2; n++; { static int n = 3; n += x; return n; } }
    return n++;
}
int uses(int x) { static int n = 9; return counted(x) + n++ + file_scope++; }
int uses_too(int x) { return counted(x + 1); }
int plain(int x);
struct s { int a; union { int b; float c; }; enum { ONE, TWO } e; int (*call)(int); };
int with_types(struct s *p, int n, ...) { struct s local = *p; int i; for (i = 0; i < n; i++) local.a += i; return local.a; }
"""
CXX = """
namespace outer { namespace inner { int scoped(int x) { static int n = 4; return n += x; } }
  struct thing { int method(int x) { static int n = 5; return n += x; } static int made(int); int value = 0; };
  int thing::made(int x) { static int n = 6; return n++ + x; } }
namespace { int anonymous(int x) { static int n = 7; return n *= x; } }
template <typename T> T generic(T x) { static T n = 8; return n += x; }
extern "C" int f(int x)
{
    auto lambda = [](int y) { static int n = 10; return n += y; };
    outer::thing t;
    return outer::inner::scoped(x) + t.method(x) + outer::thing::made(x) + anonymous(x) + generic(x) + generic(2.0) + lambda(x);
}
"""

VARIANTS = [
    ("gcc", C, "-O0 -gdwarf-4"), ("gcc", C, "-O2 -gdwarf-4"), ("gcc", C, "-O0 -gdwarf-5"), ("gcc", C, "-O2 -gdwarf-5"),
    ("gcc", C, "-O2 -g3"), ("gcc", C, "-O2 -ggdb"), ("g++", CXX, "-O0 -g"), ("g++", CXX, "-O2 -gdwarf-5"), ("g++", CXX, "-O2 -gdwarf-4"),
    ("clang", C, "-O2 -gdwarf-4"), ("clang++", CXX, "-O2 -gdwarf-4"),
]  # fmt: skip


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda variant: f"{variant[0]} {variant[2]}")
def compiled(request, tmp_path_factory):
    compiler, source, flags = request.param
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    directory = tmp_path_factory.mktemp("dwarf")
    name = "a.cpp" if compiler.endswith("++") else "a.c"
    (directory / name).write_text(source)
    words = [compiler, *flags.split(), "-fPIC", "-ffunction-sections", "-fdata-sections", "-c", name, "-o", "a.o"]
    subprocess.run(words, cwd=directory, check=True)
    return directory / "a.o"


def attribute(die, name):
    """An attribute of a DIE, or of the DIE that it refers to for it."""
    while name not in die.attributes:
        for reference in ("DW_AT_abstract_origin", "DW_AT_specification"):
            if reference in die.attributes:
                die = die.get_DIE_from_attribute(reference)
                break
        else:
            return None
    return die.attributes[name].value


def name_of(die) -> str:
    name = attribute(die, "DW_AT_linkage_name") or attribute(die, "DW_AT_name")
    return name.decode() if name else ""


def dies(path, tag):
    with open(path, "rb") as file:
        for unit in ELFFile(file).get_dwarf_info().iter_CUs():
            yield from (die for die in unit.iter_DIEs() if die.tag == tag)


def test_functions_with_code_are_those_that_pyelftools_finds(compiled):
    ours = [s for s in DebugInfo(ElfFile.read(compiled)).subprograms if s.has_code]
    theirs = {
        name_of(die)
        for die in dies(compiled, "DW_TAG_subprogram")
        if "DW_AT_low_pc" in die.attributes or "DW_AT_ranges" in die.attributes
    }
    assert ours
    for found in ours:  # of a static C++ function GCC says the word only; its symbol is mangled
        assert found.name in theirs or found.word in theirs
    nested = theirs - {found.name for found in ours} - {found.word for found in ours}
    assert all("operator()" in name or "clE" in name for name in nested), nested  # lambdas


def test_functions_begin_at_the_lines_that_pyelftools_finds(compiled):
    headings = DebugInfo(ElfFile.read(compiled)).headings
    theirs = {
        name_of(die): attribute(die, "DW_AT_decl_line")
        for die in dies(compiled, "DW_TAG_subprogram")
        if "DW_AT_declaration" not in die.attributes
    }
    assert headings
    for name, found in headings.items():
        if found.word != "operator()":  # a lambda, of which pyelftools does not see the name
            assert theirs.get(name, theirs.get(found.word)) == found.line


def test_functions_are_in_the_files_that_pyelftools_finds(compiled):
    headings = DebugInfo(ElfFile.read(compiled)).headings
    assert {heading.file for heading in headings.values()} == {
        "a.cpp" if compiled.with_name("a.cpp").exists() else "a.c"
    }
    text = compiled.with_name(next(iter(headings.values())).file).read_text().split("\n")
    for heading in headings.values():
        assert heading.word.startswith("operator") or heading.word in text[heading.line - 1]


@pytest.mark.parametrize("flags", ["-O0 -gdwarf-4", "-O2 -gdwarf-5", "-O2 -gdwarf-3 -gdwarf-4"])
def test_functions_of_headers_are_in_their_headers(tmp_path, flags):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "h.h").write_text("\nstatic long __attribute__((noinline)) h(long x) { return x; }\n")
    (tmp_path / "a.c").write_text(
        '#include "sub/h.h"\n#include <stdlib.h>\nlong f(long x) { return h(x) + atol("1"); }\n'
    )
    run = ["gcc", *flags.split(), "-c", "-I.", "a.c"]
    subprocess.run(run, cwd=tmp_path, check=True)
    headings = DebugInfo(ElfFile.read(tmp_path / "a.o")).headings
    assert headings["f"] == ("a.c", 3, "f") and headings["h"] == ("h.h", 2, "h")


def test_the_functions_inlined_into_others_are_those_that_pyelftools_finds(compiled):
    debug = DebugInfo(ElfFile.read(compiled))
    theirs: dict[str, set[str]] = {}
    for die in dies(compiled, "DW_TAG_inlined_subroutine"):
        parent = die.get_parent()
        while parent.tag != "DW_TAG_subprogram":
            parent = parent.get_parent()
        theirs.setdefault(name_of(parent), set()).add(name_of(die))
    for name, inlined in theirs.items():
        assert debug.inlined_into(name) >= {callee for callee in inlined if "$" not in callee}  # but for lambdas


def statics_of(path) -> dict[str, StaticLocal]:
    elf = ElfFile.read(path)
    found = {}
    sections = {s.section for s in elf.symbols if s.type == STT_OBJECT and elf.sections[s.section].flags & SHF_WRITE}
    places = DebugInfo(elf).static_locals(sections)
    for symbol in elf.symbols:
        if symbol.type == STT_OBJECT and (symbol.section, symbol.value) in places:
            found[symbol.name] = places[symbol.section, symbol.value]
    return found


def test_statics_belong_to_the_functions_that_declare_them(compiled):
    found = statics_of(compiled)
    if compiled.with_name("a.c").exists():
        expected = {("counted", "calls", 0), ("uses", "n", 0), *(("nested", "n", i) for i in range(3))}
        named = {(s.owner, s.name, s.ordinal) for s in found.values()}
        assert named <= expected and len(named) == len(found)
        assert "clang" in ElfFile.read(compiled).compiler or named == expected  # clang's symbols name the owner
    else:  # the symbol's own name says whose it is
        assert found
        for symbol, static in found.items():
            assert symbol.startswith("_ZZ") and static.name in ("n", symbol) and static.ordinal == 0
            assert static.owner.replace("_Z", "") in symbol


def test_statics_of_one_name_in_nested_blocks_are_numbered_in_the_order_of_the_text(tmp_path):
    initial = {}
    for flags in ("-O0", "-O2", "-O3 -fno-inline"):
        (tmp_path / "a.c").write_text(C)
        words = ["gcc", *flags.split(), "-g", "-fPIC", "-fdata-sections", "-ffunction-sections", "-c", "a.c"]
        subprocess.run(words, cwd=tmp_path, check=True)
        elf = ElfFile.read(tmp_path / "a.o")
        for name, static in statics_of(tmp_path / "a.o").items():
            if static.owner == "nested":
                symbol = next(s for s in elf.symbols if s.name == name)
                content = elf.content(elf.sections[symbol.section])
                initial[flags, static.ordinal] = int.from_bytes(content[symbol.value : symbol.value + 4], "little")
    assert initial == {(flags, i): i + 1 for flags in ("-O0", "-O2", "-O3 -fno-inline") for i in range(3)}


def test_variables_of_file_scope_have_their_lines(compiled):
    if compiled.with_name("a.c").exists():
        assert DebugInfo(ElfFile.read(compiled)).variable_lines["file_scope"] == 2


def test_an_object_without_debug_information_has_none(tmp_path):
    (tmp_path / "a.c").write_text(C)
    subprocess.run(["gcc", "-O2", "-c", "a.c"], cwd=tmp_path, check=True)
    debug = DebugInfo(ElfFile.read(tmp_path / "a.o"))
    assert debug.subprograms == [] and debug.lines == {} and debug.static_locals({1, 2, 3}) == {}
