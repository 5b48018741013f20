"""docs/migration.md: its examples are compiled, run, and do what they say."""

from __future__ import annotations

import re

import pytest

from hotreload.errors import StageError
from tests.hot import ROOT, run
from tests.migration.conftest import FLAGS

BEFORE, AFTER, SHADOW = re.findall(r"```c\n(.*?)```", (ROOT / "docs" / "migration.md").read_text(), flags=re.DOTALL)
RUN = "[set_price(1, 250), total(1, 4)][1]"


def test_the_prices_of_the_guide_are_brought_along_and_back(migrating):
    hot = migrating(BEFORE)
    assert hot(RUN) == 1000
    hot.write(AFTER)
    assert hot("total(1, 4)") == 1000
    assert hot("[set_price(2, 30), total(2, 10)][1]") == 300
    hot.save("* n / 10;", "* n / 10 + 1;")
    hot.make_live()
    assert hot("total(1, 4)") == 1001
    hot.rollback()
    assert [hot("total(1, 4)"), hot("total(2, 10)")] == [1000, 300]
    hot.rollback(2)
    assert [hot("total(1, 4)"), hot("total(2, 10)")] == [1001, 301]


def test_the_veto_of_the_guide(migrating):
    hot = migrating(BEFORE)
    hot("set_price(5, 2000000000)")
    with pytest.raises(StageError, match="a price is too big for tenths of a cent") as refused:
        hot.write(AFTER)
    assert refused.value.status == "VETO"
    assert hot("total(5, 1)") == 2000000000


def test_the_shadow_data_of_the_guide_compiles(tmp_path):
    (tmp_path / "order.c").write_text(SHADOW + "PyObject *use(PyObject *o) { return order_total(o, NULL); }\n")
    for compiler in ("gcc", "g++"):
        run(compiler, "-x", "c" if compiler == "gcc" else "c++", "-c", "-O2", "-fPIC", *FLAGS,
            *(["-fpermissive", "-Wno-error"] if compiler == "g++" else []), "order.c", cwd=tmp_path)  # fmt: skip


def test_what_the_guide_names_is_in_the_header():
    header = (ROOT / "hotreload" / "include" / "hotreload.h").read_text()
    text = (ROOT / "docs" / "migration.md").read_text()
    names = set(re.findall(r"\b(hotreload_\w+|HOTRELOAD_[A-Z_]+)\b", text)) - {"HOTRELOAD_POST", "hotreload_h"}
    assert len(names) > 7
    assert not [name for name in names if name not in header]
