"""Which running module a .py is: by its real path, or by the beginning of a build-id; and what is said otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hotreload.errors import HotReloadError
from hotreload.push.records import ProcessStatus
from hotreload.push.texts import Running, find_running

OLD, NEW = "a" * 40, "b" * 40


def status(pid: int, *modules: tuple[str, str, str]) -> ProcessStatus:
    told = [{"name": name, "path": path, "build_id": build_id} for name, path, build_id in modules]
    return ProcessStatus.of_reply({"pid": pid, "modules": told})


@pytest.fixture
def pricing(tmp_path: Path) -> str:
    (tmp_path / "pricing.py").touch()
    return str(tmp_path / "pricing.py")


def test_a_file_is_found_by_its_real_path(pricing: str, tmp_path: Path) -> None:
    os.symlink(tmp_path, tmp_path / "current")
    known = ("shop.pricing", pricing, OLD)

    assert find_running(str(tmp_path / "current" / "pricing.py"), "", [status(1, known), status(2, known)]) == known
    assert find_running(pricing, "", [status(1, known, ("kernels", pricing[:-2] + "so", NEW))]) == Running(*known)


def test_a_file_elsewhere_is_meant_by_a_build_id(pricing: str) -> None:
    known = ("shop.pricing", "/srv/shop/pricing.py", OLD)

    assert find_running(pricing, "aaaa", [status(1, known)]) == known
    with pytest.raises(HotReloadError, match=r"build-id bb .*marked modules: shop\.pricing aaaaaaaaaaaa"):
        find_running(pricing, "bb", [status(1, known)])


@pytest.mark.parametrize(
    ("others", "listed"), [((), "none"), ((("stock", "/srv/stock.py", NEW),), "stock bbbbbbbbbbbb")]
)
def test_a_file_that_nobody_has_marked_is_told_how(pricing: str, others: tuple, listed: str) -> None:
    with pytest.raises(HotReloadError, match="no process has marked functions of") as refused:
        find_running(pricing, "", [status(1, *others)])
    assert "@hotpatchable" in refused.value.hint
    assert refused.value.hint.endswith(f"marked modules: {listed}")


def test_two_texts_of_one_file_are_told_apart_by_their_processes(pricing: str) -> None:
    statuses = [status(7, ("pricing", pricing, OLD)), *(status(n, ("pricing", pricing, NEW)) for n in (8, 9))]

    with pytest.raises(HotReloadError, match="loaded 2 texts .*aaaaaaaaaaaa in 7; pricing bbbbbbbbbbbb in 8, 9"):
        find_running(pricing, "", statuses)
    assert find_running(pricing, OLD, statuses).build_id == OLD


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HotReloadError, match="is not there"):
        find_running(str(tmp_path / "missing.py"), "", [])
