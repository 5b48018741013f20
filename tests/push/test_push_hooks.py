"""Migration hooks in a push to several processes: they are asked everywhere before anything is decided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Union

import pytest

from hotreload.push.records import Exit
from tests.push.kit import Cli, Program, Project, Server

POST = "HOTRELOAD_POST_COMMIT(grow) { (void)ctx; return 0; }"
BACK = "HOTRELOAD_POST_ROLLBACK(shrink) { (void)ctx; return 0; }"
VETO = """
#include <stdio.h>
HOTRELOAD_PRE_COMMIT(idle) {
    FILE *file = fopen("busy", "r");
    long busy = 0;
    if (file) {
        (void)!fscanf(file, "%ld", &busy);
        fclose(file);
    }
    return busy == getpid() ? hotreload_veto(ctx, "the queue is not empty") : 0;
}
"""


def push(target: Union[Server, Program], patch: object, *options: object) -> Cli:
    return target.cli("push", patch, "--json", *options)


@pytest.mark.parametrize("options", [("--canary", "1", "--hold", "0"), ("--policy", "revert")], ids=str)
def test_what_could_not_be_taken_back_is_refused_where_it_may_have_to_be(
    program: Program, project: Project, options: tuple[str, ...]
) -> None:
    refused = push(program, project.patch_with(POST), *options)

    assert (refused.code, program.tell("answer")) == (Exit.REFUSED, "1000")
    assert "no post-rollback hook" in refused.json["reason"]
    assert push(program, project.patch_with(POST + BACK), *options).code == Exit.DONE


def test_without_a_trial_it_is_pushed(program: Program, project: Project) -> None:
    assert push(program, project.patch_with(POST)).code == Exit.DONE
    assert program.tell("answer") == "1001"


def test_a_veto_in_one_process_leaves_all_of_them_as_they_were(serve: Callable[..., Server], project: Project) -> None:
    server = serve(workers=2)
    (busy, _other) = server.answering()
    (project.directory / "busy").write_text(str(busy))
    try:
        refused = push(server, project.patch_with(VETO))
    finally:
        (project.directory / "busy").unlink()

    assert (refused.code, server.answers()) == (Exit.REFUSED, {1000})
    assert f"{busy}: " in refused.json["reason"]
    assert "the queue is not empty" in refused.json["reason"]
    assert set(server.live().values()) == {""}
    assert push(server, project.patch_with(VETO)).code == Exit.DONE
