from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from hotreload.config import OPTIONS, Config, ConfigError, line_of_key, load_config, load_settings, variable_problems
from hotreload.errors import HotReloadError


def write(directory: Path, text: str) -> Path:
    (directory / "pyproject.toml").write_text(text)
    return directory


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert load_config(tmp_path, environ={}) == Config()


def test_the_file_is_found_upwards(tmp_path: Path) -> None:
    write(tmp_path, '[tool.hotreload]\nlog-format = "json"\npolling = true\nquiet-ms = 25\n')
    (tmp_path / "a" / "b").mkdir(parents=True)

    config = load_config(tmp_path / "a" / "b", environ={})
    assert (config.log_format, config.polling, config.quiet_ms) == ("json", True, 25.0)


def test_a_flag_beats_the_environment_which_beats_the_file(tmp_path: Path) -> None:
    write(tmp_path, '[tool.hotreload]\nlog-format = "json"\nquiet-ms = 25\n')
    environ = {"HOTRELOAD_LOG_FORMAT": "console", "HOTRELOAD_QUIET_MS": "5", "HOTRELOAD_POLLING": "1"}

    config = load_config(tmp_path, environ=environ, flags={"log_format": "auto", "polling": None})
    assert (config.log_format, config.polling, config.quiet_ms) == ("auto", True, 5.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('log_format = "json"', "did you mean 'log-format'"),
        ("poling = true", "did you mean 'polling'"),
        ("zzz = 1", "known: allow, app, files, hint-after, keep, level, log-file, log-format"),
        ('log-format = "jsn"', "did you mean 'json'"),
        ('polling = "yes"', "'yes' is text, not true or false.*write it as false"),
        ("polling = 1", "neither true nor false"),
        ('keep = "1"', "'1' is text, not whole number.*write it as 1"),
        ('allow = "type-layout"', "is text, not list of texts"),
        ("build = 3", r"write \[tool.hotreload.build\]"),
        ("quiet-ms = -1", "not a number of zero or more"),
        ("quiet-ms = true", "not a number of zero or more"),
        ("quiet-ms = nan", "not a number of zero or more"),
        ('level = "calls"', "no level 'calls'.*did you mean 'call'"),
        ("level = 3", "is not text"),
        ('settle-policy = "revert-all"', "no policy.*did you mean 'revert'"),
        ('policy = "wait"', "did you mean 'settle-policy'"),
        ("deadline = 3", "did you mean 'settle'"),
        ('prologue = "slots"', "no prologue.*did you mean 'slot'"),
        ("allow = 1", "no list of texts"),
        ("allow = [1]", "no list of texts"),
        ("max-generations = 1.5", "not a whole number"),
        ("max-bytes = -1", "not a number of zero or more"),
    ],
)
def test_what_means_nothing_is_an_error_that_names_the_nearest(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, f"[tool.hotreload]\n{text}\n")

    with pytest.raises(HotReloadError, match=message):
        load_config(tmp_path, environ={})


def test_how_threads_come_over_is_said_in_the_file_and_overridden_from_outside(tmp_path: Path) -> None:
    text = 'level = "call"\nsettle = 5\nsettle-policy = "revert"\nallow = ["variable-size"]\nmax-generations = 7\n'
    write(tmp_path, f'[tool.hotreload]\n{text}\n[tool.hotreload.policy]\naudit = "required"\n')
    environ = {"HOTRELOAD_LEVEL": "request", "HOTRELOAD_ALLOW": "a, b", "HOTRELOAD_MAX_BYTES": "1048576"}

    config = load_config(tmp_path, environ=environ, flags={"settle": 1.5})
    assert (config.level, config.settle, config.settle_policy) == ("request", 1.5, "revert")
    assert (config.allow, config.max_generations, config.max_bytes) == (("a", "b"), 7, 1048576)
    assert type(config.max_bytes) is int


def test_the_variable_that_names_the_policy_file_is_no_setting(tmp_path: Path) -> None:
    assert load_config(tmp_path, environ={"HOTRELOAD_POLICY": "/etc/shop/hotreload.toml"}) == Config()


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    write(tmp_path, "[tool.hotreload\n")

    with pytest.raises(HotReloadError, match=r"pyproject\.toml"):
        load_config(tmp_path, environ={})


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(HotReloadError, match=r"HOTRELOAD_LOG_FORMAT.*did you mean 'json'"):
        load_config(tmp_path, environ={"HOTRELOAD_LOG_FORMAT": "jsom"})


def test_it_travels_as_json() -> None:
    config = Config(log_format="json", polling=True, quiet_ms=3, allow=("variable-size",), max_bytes=9)

    assert Config.from_json(config.to_json()) == config


def test_each_value_is_known_with_who_said_it(tmp_path: Path) -> None:
    write(tmp_path, '[tool.hotreload]\nquiet-ms = 25\nlevel = "call"\nsettle = 3\n')
    environ = {"HOTRELOAD_LEVEL": "request", "HOTRELOAD_SETTLE": "4"}
    settings = {one.option.name: one for one in load_settings(tmp_path, environ=environ, flags={"settle": 5.0})}

    said = {name: (settings[name].value, settings[name].source) for name in ("keep", "quiet_ms", "level", "settle")}
    assert said == {
        "keep": (1, "default"),
        "quiet_ms": (25.0, "file"),
        "level": ("request", "variable"),
        "settle": (5.0, "flag"),
    }
    assert settings["level"].where == "HOTRELOAD_LEVEL"
    assert line_of_key(tmp_path / "pyproject.toml", "level") == 3


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("HOTRELOAD_UI_PORT", "65536", "out of range: 0 to 65535"),
        ("HOTRELOAD_POLLING_INTERVAL", "0", "out of range: 0.01 to 3600"),
        ("HOTRELOAD_SETTLE", "4000", "out of range: 0 to 3600"),
        ("HOTRELOAD_KEEP", "1.5", "not a whole number"),
        ("HOTRELOAD_UI", "perhaps", "neither true nor false"),
    ],
)
def test_a_variable_is_checked_as_its_option_is(tmp_path: Path, name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}.*{message}"):
        load_config(tmp_path, environ={name: value})


def test_a_variable_that_nothing_reads_is_named_with_the_nearest_that_something_does() -> None:
    problems = variable_problems(
        {"HOTRELOAD_POLING": "1", "HOTRELOAD_STORE": "/x", "HOTRELOAD_LEVEL": "call", "PATH": ""}
    )

    assert problems == {"HOTRELOAD_POLING": "nothing reads it: did you mean 'HOTRELOAD_POLLING'?"}


def test_every_field_can_be_set_from_the_file_the_environment_and_by_a_default_that_passes_its_own_check() -> None:
    assert [option.name for option in OPTIONS] == [field.name for field in fields(Config)]
    for option in OPTIONS:
        if option.default != "":  # not set
            assert option.check(option.default, option.key) == option.default
