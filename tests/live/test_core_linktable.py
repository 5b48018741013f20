"""The two sides of the link table, ``linktable.h`` and ``linktable.py``, say the same: compiled and compared."""

from __future__ import annotations

import re
from pathlib import Path

import tiny

from hotreload.patch import linktable
from hotreload.patch.linktable import FixupKind, HookKind, Protection

HEADER = tiny.ROOT / "csrc" / "linktable.h"

RECORDS = {
    "header": linktable.HEADER,
    "segment": linktable.SEGMENT,
    "fixup": linktable.FIXUP,
    "import": linktable.IMPORT,
    "library": linktable.LIBRARY,
    "carried": linktable.CARRIED,
    "function": linktable.FUNCTION,
    "range": linktable.RANGE,
    "hook": linktable.HOOK,
    "table": linktable.TABLE,
}


def evaluate(folder: Path, *expressions: str) -> list[int]:
    """What the C compiler takes these expressions for."""
    lines = "".join(f'printf("%lld\\n", (long long)({expression}));' for expression in expressions)
    source, program = folder / "evaluate.c", folder / "evaluate"
    source.write_text(f'#include <stddef.h>\n#include <stdio.h>\n#include "{HEADER}"\nint main(void) {{ {lines} }}\n')
    tiny.run("gcc", source, "-o", program)
    return [int(line) for line in tiny.run(program).split()]


def fields(record: str) -> list[str]:
    body = re.search(rf"struct hr_link_{record} \{{(.*?)\}};", HEADER.read_text(), flags=re.DOTALL).group(1)
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)
    return re.findall(r"(\w+)(?:\[\d+\])?;", body)


def test_records_have_the_same_size_and_fields_at_the_same_places(tmp_path: Path) -> None:
    for record, layout in RECORDS.items():
        names = fields(record)
        offsets = evaluate(tmp_path, *(f"offsetof(struct hr_link_{record}, {name})" for name in names))
        assert evaluate(tmp_path, f"sizeof(struct hr_link_{record})") == [layout.size], record
        parts = re.findall(r"\d*s|\d*[QqIB]", layout.format.lstrip("<"))
        each = [part[-1] for part in parts for _ in range(1 if part.endswith("s") else int(part[:-1] or 1))]
        assert len(each) == len(names), record
        lengths = {"s": None, "Q": 8, "q": 8, "I": 4}
        ends = [*offsets[1:], layout.size]
        for kind, name, start, end in zip(each, names, offsets, ends):
            assert lengths[kind] in (None, end - start), f"{record}.{name}"


def test_fixups_have_the_same_names_and_numbers(tmp_path: Path) -> None:
    names = re.findall(r"X\(\d+, (\w+),", HEADER.read_text())
    assert names == [kind.name for kind in FixupKind]
    assert evaluate(tmp_path, *(f"HR_FIX_{name}" for name in names)) == [kind.value for kind in FixupKind]


def test_flags_and_names_are_the_same(tmp_path: Path) -> None:
    values = evaluate(tmp_path, "HR_LINK_R", "HR_LINK_W", "HR_LINK_X", "HR_IMPORT_WEAK", "HR_CARRIED_FUNCTION",
                      "HR_FUNCTION_BASE", "HR_FUNCTION_CARRIED", "HR_LINK_DATA_ESCAPES", "HR_HOOK_PRE_COMMIT",
                      "HR_HOOK_POST_COMMIT", "HR_HOOK_POST_ROLLBACK", "HR_LINK_VERSION")  # fmt: skip
    assert values == [
        Protection.R,
        Protection.W,
        Protection.X,
        linktable.IMPORT_WEAK,
        linktable.CARRIED_FUNCTION,
        linktable.FUNCTION_BASE,
        linktable.FUNCTION_CARRIED,
        linktable.DATA_ESCAPES,
        *HookKind,
        int(linktable.MAGIC[6:]),
    ]
    text = HEADER.read_text()
    assert f'HR_LINK_MAGIC "{linktable.MAGIC.decode()}"' in re.sub(r" +", " ", text)
    assert f'HR_LINK_SECTION "{linktable.SECTION}"' in re.sub(r" +", " ", text)
