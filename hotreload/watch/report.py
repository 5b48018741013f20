"""The canonical line: everything that is known about one save of one module, as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

from hotreload.errors import BuildError, Finding, HotReloadError, IncompatibleError
from hotreload.watch.bench import Attempt, Bench, Made
from hotreload.watch.courier import Delivery
from hotreload.watch.seams import PatchResult

__all__ = [
    "REASON_NOBODY",
    "REASON_NOTES",
    "REASON_SAME",
    "REASON_SILENT",
    "REASON_THERE",
    "Outcome",
    "answers_of",
    "conclude",
    "describe",
    "explain",
    "explain_refusal",
    "level_of",
    "why_nothing",
]

_TEXT_LIMIT = 64 * 1024
_LINE_LIMIT = 1024
_FINDINGS_LIMIT = 32

REASON_SAME = "the code is live already: only names, comments, white space or line numbers differ"
REASON_NOTES = "no function's code differs from what is live; the notes say what else has changed"
REASON_NOBODY = "no process has the extension loaded any more; the next one that loads it takes the patch"
REASON_SILENT = "no process has answered in time; one that wakes up takes the patch, unless a newer one follows"
REASON_THERE = "that is what is live already, in every process"


class Outcome:
    """How an attempt ended."""

    LIVE = "live"
    BASE = "base"
    NOTHING = "nothing"
    REFUSED = "refused"
    BUILD_FAILED = "build_failed"


def level_of(outcome: str) -> str:
    """The log level that an outcome is worth."""
    return {Outcome.REFUSED: "warning", Outcome.BUILD_FAILED: "error"}.get(outcome, "info")


def describe(
    bench: Bench,
    attempt: Attempt,
    made: Made,
    outcome: str,
    *,
    finished: float,
    accepted: Iterable[Mapping[str, Any]] = (),
    **more: Any,
) -> dict[str, Any]:
    """The fields of ``reload.finished``.

    Args:
        bench: the module.
        attempt: the saves that caused it.
        made: what the build came to.
        outcome: one of :class:`Outcome`.
        finished: when the last process answered (or when it was known that there is nothing to send).
        accepted: the answers of the processes that took the patch.
        more: fields that only this outcome has.
    """
    taken = list(accepted)
    result = made.result
    # Going to an earlier patch builds nothing: what its build took, and said, is not told again.
    is_built = attempt.trigger != "page"
    seconds = dict(result.seconds) if result is not None and is_built else {}
    functions = [list(reply["functions"]) for reply in taken if "functions" in reply]
    notes = [note for reply in taken for note in reply.get("notes") or ()]
    line: dict[str, Any] = {
        "outcome": outcome,
        "module": bench.workshop.module,
        "functions": _once(chain(*functions)) if functions else list(result.changed) if result is not None else [],
        "compiler_changed": list(result.compiler_changed) if result is not None else [],
        "edited": list(result.edited) if result is not None else [],
        "added": list(result.added) if result is not None else [],
        "removed": list(result.removed) if result is not None else [],
        "appeared": _union(taken, "appeared"),
        "withdrawn": _union(taken, "withdrawn"),
        "left_alone": _union(taken, "left_alone"),
        "generation": _greatest(taken, "generation"),
        "build_ms": _ms(seconds.get("build", made.seconds)),
        "diff_ms": _ms(seconds.get("diff")),
        "link_ms": _ms(seconds.get("link")),
        "stage_ms": _greatest(taken, "stage_ms"),
        "commit_ms": _greatest(taken, "commit_ms"),
        "total_ms": _ms(finished - attempt.saved),
        "distance_bytes": _greatest(taken, "distance_bytes"),
        "processes": len({reply["peer"] for reply in taken}),
        "consistency": next((reply["level"] for reply in taken if reply.get("level")), None),
        "stragglers": [straggler for reply in taken for straggler in reply.get("stragglers") or ()],
        "build_id": bench.workshop.build_id,
        "trigger": attempt.trigger,
        "discarded": attempt.discarded,
        "notes": _once([*(result.notes if result is not None else ()), *notes]),
        "warnings": result.warnings[:_TEXT_LIMIT] if result is not None and is_built else "",
    }
    line.update(more)
    return line


def why_nothing(result: PatchResult, *, is_base: bool) -> str:
    """Why a save changed nothing: the words of the workshop, which a push has too, where it went by the base."""
    own = str(getattr(result, "reason", "")) if is_base else ""
    return own or (REASON_NOTES if result.notes else REASON_SAME)


def conclude(delivery: Delivery) -> tuple[str, dict[str, Any]]:
    """How a delivery ended, and the fields that say why."""
    more: dict[str, Any] = {}
    if delivery.refused:
        more = {**explain_refusal(delivery.refused[0]), "refused_by": len(delivery.refused)}
    if delivery.silent:
        more["unanswered"] = delivery.silent
    if delivery.held:
        more = {**explain_refusal(next(iter(delivery.held.values()))), **more, "busy": len(delivery.held)}
    if delivery.accepted:
        return (Outcome.LIVE if delivery.digest else Outcome.BASE), more
    if delivery.refused or delivery.held:
        return Outcome.REFUSED, more
    if delivery.silent:
        return Outcome.REFUSED, {**more, "reason": REASON_SILENT}
    return Outcome.NOTHING, {**more, "reason": REASON_NOBODY}


def answers_of(delivery: Delivery) -> list[dict[str, Any]]:
    """What each process said, in a line each: ``ok`` is ``None`` where there was no answer in time."""
    said = [(reply["peer"], reply) for reply in delivery.replies]
    said += [(holder.peer, reply) for holder, reply in delivery.held.items()]
    answers = [
        {
            "pid": peer.pid,
            "ok": bool(reply.get("ok")),
            **{name: reply.get(name) for name in ("generation", "stage_ms", "commit_ms")},
            "reason": "" if reply.get("ok") else explain_refusal(reply)["reason"],
        }
        for peer, reply in said
    ]
    silent = [holder for holder in delivery.waiting if holder not in delivery.held]
    return answers + [{"pid": holder.peer.pid, "ok": None, "reason": "no answer in time"} for holder in silent]


def explain_refusal(reply: Mapping[str, Any]) -> dict[str, Any]:
    """Why a process said no: ``reason``, ``hint``, its error's fields as ``details``, and a text to be shown whole."""
    error = reply.get("error") or {}
    details = {name: value for name, value in error.items() if name not in ("message", "hint", "diagnostics")}
    told = {"reason": error.get("message", "no reason given"), "hint": error.get("hint", ""), "details": details}
    text = str(error.get("diagnostics", "")) or "\n".join(_finding(each) for each in error.get("findings") or ())
    return {**told, "diagnostics": text[:_TEXT_LIMIT]} if text else told


def _finding(fields: Mapping[str, Any]) -> str:
    """One reason of a process, as the guards tell theirs."""
    return Finding(**{name: value for name, value in fields.items() if name in Finding._fields}).with_slug


def explain(error: Exception) -> dict[str, Any]:
    """Why a build or a process said no: ``reason``, ``hint``, and the compiler's own text where there is one."""
    if isinstance(error, IncompatibleError):
        findings = "\n".join(finding.with_slug for finding in error.findings)
        told = {"reason": error.message, "hint": error.hint, "diagnostics": findings[:_TEXT_LIMIT]}
        some = error.findings[:_FINDINGS_LIMIT]
        places = [f"{finding.file}:{finding.line}" for finding in some]
        lines = {place: text[:_LINE_LIMIT] for place, text in error.fields.get("sources", {}).items()}
        sources = {place: lines[place] for place in places if place in lines}
        return {**told, "findings": [finding._asdict() for finding in some], "sources": sources}
    if isinstance(error, BuildError):
        return {"reason": error.message, "hint": error.hint, "diagnostics": error.diagnostics[:_TEXT_LIMIT]}
    if isinstance(error, HotReloadError):
        return {"reason": error.message, "hint": error.hint}
    return {"reason": f"{type(error).__name__}: {error}", "hint": "this is a fault of hotreload, please report it"}


def _once(texts: Iterable[str]) -> list[str]:
    """What several processes say alike is said once."""
    return list(dict.fromkeys(texts))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _union(replies: Iterable[Mapping[str, Any]], name: str) -> list[str]:
    """What any process says it has, each once."""
    return list(dict.fromkeys(str(item) for reply in replies for item in reply.get(name) or ()))


def _greatest(replies: Iterable[Mapping[str, Any]], name: str) -> Any:
    values = [reply[name] for reply in replies if isinstance(reply.get(name), (int, float))]
    return max(values) if values else None
