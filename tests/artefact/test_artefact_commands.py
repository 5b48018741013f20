"""``pack``, ``show``, ``sign`` and ``verify`` as they are typed: what they say, and what they exit with."""

from __future__ import annotations

import json
import os
import pty
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hotreload import artefact, signing
from hotreload.cli.commands import run_command
from hotreload.patch.linktable import HookKind, TableKind
from tests.artefact import kit
from tests.hot import ROOT, HotExtension

CODE = "import sys; from hotreload.cli.commands import run_command; sys.exit(run_command(sys.argv[1:]))"
SOURCE = "static long n = 1;\nlong f(long x) { return x + n; }\n"
DONE, USAGE, NOTHING, REFUSED = 0, 2, 3, 4


def cli(*arguments: object, cwd: Path, **options) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    command = [sys.executable, "-c", CODE, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, **options)


def on_terminal(*arguments: object, cwd: Path) -> str:
    """What a command prints where a person reads it."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "120"}
    env.pop("NO_COLOR", None)
    child = subprocess.Popen([sys.executable, "-c", CODE, *map(str, arguments)], cwd=cwd, env=env, stdout=theirs)
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        text += part
    os.close(ours)
    assert child.wait(30) == 0
    return text.decode()


@pytest.fixture
def hot(hot_extension) -> HotExtension:
    extension = hot_extension(SOURCE)
    extension.save("x + n", "x - n")
    return extension


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "fix.hotpatch"
    path.write_bytes(
        kit.make(kit.tiny_elf(functions=("f", "g")), changed=("f",), compiler_changed=("g",), added=("h",))
    )
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    pytest.importorskip("cryptography", reason="the package cryptography is not installed")
    assert run_command(["sign", "--new-key", str(tmp_path / "key")]) == DONE
    return tmp_path / "key"


def test_pack_writes_an_artefact_beside_its_name(hot: HotExtension) -> None:
    done = cli("pack", "ext.c", cwd=hot.directory)

    assert done.returncode == DONE, done.stderr
    assert done.stdout.startswith("ext.hotpatch: 1 function of ext, base ")
    assert artefact.load(hot.directory / "ext.hotpatch").functions == ("f",)


def test_pack_with_everything_said(hot: HotExtension, tmp_path: Path) -> None:
    output = tmp_path / "out.hotpatch"
    options = ["--author", "Ada", "--sequence", "12", "--expires", "7d", "-o", output, "--json"]
    done = cli("pack", "ext.c", *options, cwd=hot.directory)
    data, manifest = json.loads(done.stdout), artefact.load(output).manifest

    assert (manifest.author, manifest.sequence, bool(manifest.expires)) == ("Ada", 12, True)
    assert (data["ok"], data["packed"], data["manifest"]["sequence"], data["redirects"]) == (
        True,
        str(output),
        12,
        ["f"],
    )
    assert stat.S_IMODE(output.stat().st_mode) == 0o644
    assert not [name for name in os.listdir(hot.directory) if "hotpatch" in name]


def test_pack_with_nothing_to_do_writes_nothing(hot: HotExtension) -> None:
    hot.save("x - n", "x + n")
    done = cli("pack", "ext.c", cwd=hot.directory)

    assert (done.returncode, "nothing to pack" in done.stdout) == (NOTHING, True)
    assert not (hot.directory / "ext.hotpatch").exists()


def test_pack_shows_what_the_compiler_said(hot: HotExtension) -> None:
    hot.save("return x - n;", "return x -;")
    done = cli("pack", "ext.c", cwd=hot.directory)

    assert done.returncode == REFUSED
    assert "ext.c does not compile" in done.stderr and "error: expected expression" in done.stderr
    assert not (hot.directory / "ext.hotpatch").exists()


def test_pack_tells_every_reason_of_a_refusal(hot: HotExtension) -> None:
    hot.save("static long n", "static int n")
    done = cli("pack", "ext.c", cwd=hot.directory)
    assert (done.returncode, "`n`" in done.stderr) == (REFUSED, True)
    for line in done.stderr.splitlines():
        assert re.fullmatch(r"\S+/ext\.c:\d+: refused: .* \(.*\) \[variable-\w+\]", line)
    told = json.loads(cli("pack", "ext.c", "--json", cwd=hot.directory).stdout)
    assert (told["ok"], told["error"], bool(told["findings"])) == (False, "IncompatibleError", True)


def test_pack_that_cannot_write_says_where(hot: HotExtension) -> None:
    done = cli("pack", "ext.c", "-o", "/proc/nowhere/x", cwd=hot.directory)

    assert (done.returncode, "cannot write /proc/nowhere/x" in done.stderr) == (REFUSED, True)


def test_show_is_plain_in_a_pipe(file: Path, tmp_path: Path) -> None:
    done = cli("show", file, cwd=tmp_path)
    lines = done.stdout.splitlines()

    assert done.returncode == DONE and "\x1b" not in done.stdout
    assert lines[0] == "module    shop._kernels"
    assert "f  changed  edited" in lines
    assert "g  changed  the compiler made other code of the same text" in lines
    assert any(line.startswith("h  added") for line in lines)
    assert lines[-2:] == ["-int a;", "+int b;"]


def test_show_lists_the_hooks_of_the_code_and_when_they_run(tmp_path: Path) -> None:
    path = tmp_path / "hooks.hotpatch"
    path.write_bytes(kit.make(kit.tiny_elf(hooks=tuple(HookKind))))
    shown = cli("show", path, cwd=tmp_path).stdout
    told = json.loads(cli("show", path, "--json", cwd=tmp_path).stdout)

    assert "hook1 (before the commit), hook2 (after the commit), hook3 (after a rollback)" in shown
    assert told["hooks"][0] == {"name": "hook1", "runs": "before the commit"}


def test_show_lists_the_tables_that_the_code_changes(tmp_path: Path) -> None:
    path = tmp_path / "tables.hotpatch"
    path.write_bytes(kit.make(kit.tiny_elf(tables=tuple(TableKind))))
    assert "table1, table2, table3 (what Python finds in modules and types)" in cli("show", path, cwd=tmp_path).stdout
    assert json.loads(cli("show", path, "--json", cwd=tmp_path).stdout)["tables"] == ["table1", "table2", "table3"]


def test_show_has_colours_and_a_table_on_a_terminal(file: Path, tmp_path: Path) -> None:
    text = on_terminal("show", file, cwd=tmp_path)

    assert "\x1b[31m-int a;" in text and "\x1b[32m+int b;" in text
    assert "function" in text and "why" in text


def test_show_as_json_is_everything(file: Path, tmp_path: Path) -> None:
    data = json.loads(cli("show", file, "--json", cwd=tmp_path).stdout)
    found = artefact.load(file)

    assert data["manifest"] == json.loads(found.manifest.to_bytes())
    assert (data["sha256"], data["signed"], data["redirects"]) == (found.sha256, False, ["f", "g"])


@pytest.mark.parametrize("is_terminal", [False, True], ids=["pipe", "terminal"])
def test_show_cannot_be_made_to_lie(tmp_path: Path, is_terminal: bool) -> None:
    """Nothing in an artefact moves the cursor, sets a title, hides itself, or begins a line that looks like ours."""
    evil = "x\nsigned    by SHA256:good\x1b[8m\x1b]0;t\x07\u202e\x9b[red]\udc80"
    path = tmp_path / "evil.hotpatch"
    path.write_bytes(
        kit.make(
            kit.tiny_elf(functions=(evil[:-1],)),
            module=evil, author=evil, compiler=evil, edited=(evil,), changed=(evil, evil[:-1]), added=(evil,),
            removed=(evil,), notes=(evil,), sources=(evil,), source_diff=f"+{evil}\r+a\n\x1b[2J\t\n",
        )
    )  # fmt: skip
    if is_terminal:
        text = on_terminal("show", path, cwd=tmp_path)
        assert [mark for mark in ("\x1b[8m", "\x1b]", "\x1b[2J", "\x9b", "\u202e", "\x07") if mark in text] == []
    else:
        text = cli("show", path, cwd=tmp_path).stdout
        assert all(line.isprintable() for line in text.split("\n"))
    assert [line for line in text.replace("\r", "").split("\n") if line.startswith("signed    by")] == []
    assert "? signed    by" in text and "\\n" in text and "[red]" in text


def test_sign_and_verify(file: Path, key: Path, tmp_path: Path) -> None:
    signed = cli("sign", file, "--key", key, cwd=tmp_path)
    fingerprint = signing.fingerprint((tmp_path / "key.pub").read_text())
    assert (signed.returncode, fingerprint in signed.stdout) == (DONE, True), signed.stderr

    done = cli("verify", file, "--key", f"{key}.pub", cwd=tmp_path)
    assert (done.returncode, f"good, signed by {fingerprint}" in done.stdout) == (DONE, True)
    told = json.loads(cli("verify", file, "--key", (tmp_path / "key.pub").read_text(), "--json", cwd=tmp_path).stdout)
    assert (told["ok"], told["verified"], told["manifest"]["signer"]) == (True, True, fingerprint)
    assert f"signed    by {fingerprint}, not verified here" in cli("show", file, cwd=tmp_path).stdout


def test_sign_to_another_file_leaves_the_first_alone(file: Path, key: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    assert cli("sign", file, "--key", key, "-o", "signed.hotpatch", cwd=tmp_path).returncode == DONE

    assert file.read_bytes() == before
    assert artefact.load(tmp_path / "signed.hotpatch").signature


def test_verify_refuses_each_with_its_reason(file: Path, key: Path, tmp_path: Path) -> None:
    def refusal(*keys: object) -> str:
        done = cli("verify", file, *(word for k in keys for word in ("--key", k)), cwd=tmp_path)
        assert (done.returncode, done.stdout) == (REFUSED, "")
        return done.stderr

    other = signing.public_key_text(signing.public_key(signing.new_key()))
    assert "is not signed" in refusal(f"{key}.pub")
    cli("sign", file, "--key", key, cwd=tmp_path)
    assert "which is not trusted here" in refusal(other)
    assert cli("verify", file, "--key", other, "--key", f"{key}.pub", cwd=tmp_path).returncode == DONE
    file.write_bytes(kit.with_fields(file.read_bytes(), sequence=2**60))
    assert "changed after it was signed" in refusal(f"{key}.pub")
    file.write_bytes(signing.sign(kit.make(expires="2001-01-01T00:00:00Z"), key.read_bytes()))
    assert "time was over at 2001-01-01" in refusal(f"{key}.pub")
    assert "cannot read the key" in refusal(tmp_path / "nothing")
    file.write_bytes(file.read_bytes()[:-1])
    assert "cut off" in refusal(f"{key}.pub")
    told = json.loads(cli("verify", file, "--key", f"{key}.pub", "--json", cwd=tmp_path).stdout)
    assert (told["ok"], told["status"]) == (False, "ARTEFACT")


def test_a_new_key_is_secret_and_never_replaces_one(key: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    done = cli("sign", "--new-key", key, cwd=tmp_path)

    assert (done.returncode, "is there already" in done.stderr) == (REFUSED, True)
    assert key.read_bytes() == before


def test_a_key_that_others_can_read_is_pointed_out(file: Path, key: Path, tmp_path: Path) -> None:
    key.chmod(0o644)
    done = cli("sign", file, "--key", key, cwd=tmp_path)

    assert (done.returncode, f"chmod 0600 {key}" in done.stderr) == (DONE, True)


def test_the_passphrase_of_a_key_comes_from_the_environment(file: Path, key: Path, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as s

    locked = s.load_pem_private_key(key.read_bytes(), None).private_bytes(
        s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"open sesame")
    )
    key.write_bytes(locked)
    without = cli("sign", file, "--key", key, cwd=tmp_path, stdin=subprocess.DEVNULL)
    assert (without.returncode, "private key cannot be read" in without.stderr) == (REFUSED, True)
    env = {"HOTRELOAD_KEY_PASSPHRASE": "open sesame"}
    assert cli("sign", file, "--key", key, cwd=tmp_path, env=env).returncode == DONE


@pytest.mark.parametrize("arguments", [["sign"], ["sign", "x"], ["sign", "x", "--new-key", "y"], ["verify", "x"], ["show"], ["pack"], ["pack", "x", "--sequence", "-1"], ["pack", "x", "--sequence", "x"]], ids=" ".join)  # fmt: skip
def test_what_is_typed_wrong_is_a_usage_error(tmp_path: Path, arguments: list[str]) -> None:
    done = cli(*arguments, cwd=tmp_path)

    assert (done.returncode, done.stderr.startswith("usage: hotreload ")) == (USAGE, True)


@pytest.mark.parametrize("command", ["pack", "show", "sign", "verify"])
def test_each_command_names_its_exit_codes(tmp_path: Path, command: str) -> None:
    shown = cli(command, "--help", cwd=tmp_path).stdout

    assert all(f"\n  {code} " in shown for code in (0, 2, 4))
    assert ("\n  3 " in shown) == (command == "pack")


def test_a_hostile_file_name_is_escaped(tmp_path: Path) -> None:
    done = cli("show", "x\n\x1b[2J.hotpatch", cwd=tmp_path)

    assert done.returncode == REFUSED and done.stderr.rstrip("\n").isprintable()
