"""The policy file: what each key means, and that whatever means nothing is an error and not a gap."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hotreload import signing
from hotreload.agent.policy import Policy, PolicySource, read_policy
from hotreload.errors import StageError
from tests.artefact import kit as artefact_kit

KEY = signing.public_key(signing.new_key())


def written(tmp_path: Path, text: str, name: str = "policy.toml") -> str:
    path = tmp_path / name
    path.write_text(text)
    path.chmod(0o644)
    return str(path)


def test_without_a_policy_the_own_user_and_root_may_do_everything() -> None:
    policy = PolicySource(None).read()

    assert policy == Policy()
    assert policy.may_push(0)
    assert policy.may_push(os.geteuid())
    assert not policy.may_look(65534)


def test_every_key_is_read(tmp_path: Path) -> None:
    (tmp_path / "deploy.pub").write_text(signing.public_key_text(KEY))
    policy = read_policy(
        written(
            tmp_path,
            'users = ["root", 1005]\nreaders = [65534]\nmodules = ["shop.*"]\nfunctions = ["render_?"]\n'
            'signature = "required"\nkeys = ["deploy.pub"]\naudit = "required"\n',
        )
    )

    assert policy.users == {0, 1005}
    assert policy.readers == {65534}
    assert (policy.modules, policy.functions) == (("shop.*",), ("render_?",))
    assert (policy.signature, policy.keys, policy.needs_audit) == ("required", (KEY,), True)
    assert policy.may_push(1005)
    assert policy.may_look(65534)
    assert not policy.may_push(65534)


def test_it_may_be_a_table_of_pyproject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, '[tool.hotreload]\napp = "shop"\n[tool.hotreload.policy]\nusers = [7]\n', "pyproject.toml")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    monkeypatch.delenv("HOTRELOAD_POLICY", raising=False)
    source = PolicySource.find()
    from hotreload.config import load_config

    assert source.read().users == {7}
    assert load_config().app == "shop"
    written(tmp_path, '[tool.hotreload]\napp = "shop"\n', "pyproject.toml")
    assert PolicySource.find().path is None
    monkeypatch.setenv("HOTRELOAD_POLICY", "elsewhere.toml")
    assert PolicySource.find().path == str(tmp_path / "below" / "elsewhere.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("users = 7", "users must be a list"),
        ("users = [-1]", "is no user"),
        ("users = [true]", "is no user"),
        ("users = [1.5]", "is no user"),
        ('users = ["nobody-has-this-name"]', "there is no user nobody-has-this-name"),
        ('readers = ["nobody-has-this-name"]', "there is no user"),
        ("modules = []", "modules is empty"),
        ("functions = []", "functions is empty"),
        ("modules = [1]", "modules must be texts"),
        ('modules = "shop"', "modules must be a list"),
        ('signature = "maybe"', '"required" or "optional"'),
        ("signature = true", '"required" or "optional"'),
        ('signature = "required"', "no keys to check them with"),
        ("audit = 1", '"required" or "optional"'),
        ('keys = ["missing.pub"]', "missing.pub cannot be read"),
        ('keys = ["ed25519:short"]', "not an Ed25519 public key"),
        ('keys = ["binary.pub"]', "is no text"),
        ('keys = ["open.pub"]', "can be changed by others"),
        ("only-marked = true", "did you mean 'marked-only'"),
        ("userz = []", "did you mean 'users'"),
        ('marked-only = "yes"', "marked-only is true or false"),
        ('signed = "required"', "has no key signed"),
        ("[tool.hotreload]\npolicy = 7", "must be a table"),
        ("users = [", "cannot be read"),
    ],
)
def test_what_means_nothing_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "binary.pub").write_bytes(b"\xff\xfe")
    (tmp_path / "open.pub").write_text(signing.public_key_text(KEY))
    (tmp_path / "open.pub").chmod(0o666)
    path = written(tmp_path, text)
    with pytest.raises(StageError) as caught:
        read_policy(path)

    assert caught.value.status == "POLICY"
    assert message in caught.value.message
    assert path in caught.value.message or "open.pub" in caught.value.message


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646])
def test_a_policy_that_others_can_write_is_no_policy(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path, "users = []")
    os.chmod(path, mode)
    with pytest.raises(StageError, match="can be changed by others"):
        read_policy(path)


@pytest.mark.skipif(os.getuid() != 0, reason="gives a file away")
def test_a_policy_of_somebody_else_is_no_policy(tmp_path: Path) -> None:
    path = written(tmp_path, "users = []")
    os.chown(path, 65534, -1)
    with pytest.raises(StageError, match="can be changed by others"):
        read_policy(path)


def test_a_policy_that_is_not_there_allows_nothing(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="No such file"):
        PolicySource(str(tmp_path / "gone.toml")).read()


def test_a_signature_is_checked_where_there_are_keys_even_if_none_is_required(tmp_path: Path) -> None:
    policy = Policy(keys=(KEY,))
    from hotreload.artefact import Envelope

    signed = Envelope(b"elf", b"{}", bytes(64)).to_bytes()
    assert policy.check_signature(Envelope(b"elf", b"{}", b"").to_bytes()) == ""
    with pytest.raises(StageError) as caught:
        policy.check_signature(signed)
    assert caught.value.status == "SIGNATURE_BAD"
    assert Policy().check_signature(signed) == ""


def test_a_patch_that_was_committed_in_time_is_good_for_workers_that_start_later() -> None:
    private = signing.new_key()
    raw = signing.sign(artefact_kit.make(expires="2001-01-01T00:00:00Z"), private)
    policy = Policy(signature="required", keys=(signing.public_key(private),))
    with pytest.raises(StageError) as caught:
        policy.check_signature(raw)
    assert caught.value.status == "SIGNATURE_EXPIRED"
    assert policy.check_signature(raw, was_committed=True)
