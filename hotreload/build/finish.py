"""The end of a hot link: prologues finished, record written, base kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os

from hotreload.build import compdb, store
from hotreload.build.prologue import finish_entries, hooked_entries
from hotreload.build.record import RECORD_SECTION, UNIT_SECTION, Record, Unit, Unpatchable, read_units
from hotreload.build.slots import Slots
from hotreload.elf.edit import Editor
from hotreload.elf.file import SHF_EXECINSTR, STT_FUNC, ElfFile
from hotreload.errors import BuildError

__all__ = ["JOURNAL", "count_hooks", "finish_library", "note_start"]

JOURNAL = "HOTRELOAD_JOURNAL"  # names a file that gets a line for each library finished during a build


def count_hooks(path: str) -> int:
    """How many entries of the linked library at ``path`` :func:`finish_library` would finish."""
    elf = ElfFile.read(path)
    units = read_units(elf)
    return len(hooked_entries(elf, _own_functions(units))) if units else 0


def finish_library(path: str, output: str, link_argv: list[str], prologue: str = "jump") -> Record | None:
    """Finish the linked library at ``path``, which will be renamed to ``output``, in place.

    Returns None, and leaves the file as it is, when no object in it was compiled hot.

    Raises:
        BuildError: the linker made something that cannot be finished; the file is as the linker left it.
    """
    elf = ElfFile.read(path)
    units = read_units(elf)
    section = elf.section(UNIT_SECTION)
    if not units or section is None:
        return None
    if not elf.build_id:
        raise BuildError(f"{output}: the linker wrote no build-id", hint="remove --build-id=none from the link")
    if not elf.symbols:
        raise BuildError(f"{output}: the linker wrote no symbol table", hint="link without --strip-all")
    editor = Editor(elf)
    own = _own_functions(units)
    entries = finish_entries(elf, editor, own, Slots(elf) if prologue == "slot" else None)
    directory = os.getcwd()
    record = Record(
        module=module_name(elf, output),
        build_id=_change_build_id(elf, editor).hex(),
        directory=directory,
        link_argv=link_argv,
        units=units,
        patchable=len(entries.finished),
        unpatchable=[*entries.unpatchable, *_foreign_functions(elf, own)],
        prologue=prologue,
    )
    editor.replace(section.number, record.to_json(), name=RECORD_SECTION)
    content = editor.to_bytes()
    mode = os.stat(path).st_mode
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, mode)
    store.save_base(record, content)
    with contextlib.suppress(OSError):  # tidying up; what it could not remove, the next build will
        store.prune()
    compdb.merge(directory, units)
    _write_journal(record, output)
    return record


def _change_build_id(elf: ElfFile, editor: Editor) -> bytes:
    """Give the finished library a build-id of its own: the linker's names the unfinished one, without hooks."""
    note = elf.section(".note.gnu.build-id")
    assert note is not None, "there is a build-id"
    finished = hashlib.sha256(b"hotreload finished\0" + elf.build_id).digest()[: len(elf.build_id)]
    editor.write(note.offset + note.size - len(finished), finished)  # the id is the last thing in the note
    return finished


def module_name(elf: ElfFile, output: str) -> str:
    """The name of the extension module: from its init function, else from the file."""
    for symbol in elf.dynamic_symbols:
        if symbol.name.startswith("PyInit_") and symbol.section:
            return symbol.name[len("PyInit_") :]
    return os.path.basename(output).split(".")[0]


def _own_functions(units: list[Unit]) -> set[str]:
    return {name for unit in units for name in _functions_of(unit)}


def _functions_of(unit: Unit) -> list[str]:
    elf = ElfFile(store.load_object(unit.object), unit.source)
    return [symbol.name for symbol in elf.symbols if symbol.type == STT_FUNC and symbol.section]


def _foreign_functions(elf: ElfFile, own: set[str]) -> list[Unpatchable]:
    """One entry for the functions that no hot unit brought in."""
    code = {s.number for s in elf.sections if s.flags & SHF_EXECINSTR}
    functions = {s.name for s in elf.symbols if s.type == STT_FUNC and s.section in code}
    foreign = sorted(functions - own - STARTUP)
    if not foreign:
        return []
    some = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
    return [Unpatchable(some, "from an object that was not compiled by hotreload cc")]


# What crtbegin and crti bring into every shared library.
STARTUP = {"_init", "_fini", "deregister_tm_clones", "register_tm_clones", "__do_global_dtors_aux", "frame_dummy"}


def note_start(source: str) -> None:
    """Tells `hotreload build` what is compiled now, where it listens."""
    journal = os.environ.get(JOURNAL)
    if journal:
        with open(journal, "a", encoding="utf-8") as file:
            file.write(json.dumps({"compiling": source}) + "\n")


def _write_journal(record: Record, output: str) -> None:
    journal = os.environ.get(JOURNAL)
    if journal:
        line = {
            "module": record.module,
            "path": os.path.abspath(output),
            "build_id": record.build_id,
            "prologue": record.prologue,
            "patchable": record.patchable,
            "unpatchable": [entry._asdict() for entry in record.unpatchable],
            "sources": [unit.source for unit in record.units],
        }
        with open(journal, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
