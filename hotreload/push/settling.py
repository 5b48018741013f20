"""How the threads of each process are to come over, as an operator says it."""

from __future__ import annotations

from typing import Any, NamedTuple

from hotreload.config import Config
from hotreload.errors import HotReloadError

__all__ = ["Settling", "no_reason"]

_SECONDS = 30.0


class Settling(NamedTuple):
    """When a thread moves, how long all of them may take, what is then, and why that is forced."""

    level: str = "auto"
    seconds: float = _SECONDS
    policy: str = "wait"
    reason: str = ""

    @classmethod
    def of(
        cls, config: Config, *, level: str | None, seconds: float | None, policy: str | None, reason: str
    ) -> Settling:
        """What flags say, and where they do not, environment and file.

        Raises:
            HotReloadError: force without a reason, or no time at all.
        """
        if seconds == 0:
            raise HotReloadError(
                "--settle 0 leaves no thread the time to come over", hint="use --policy force --reason TEXT"
            )
        policy = policy or config.settle_policy or "wait"
        if policy == "force" and not reason.strip():
            raise no_reason()
        return cls(level or config.level, seconds or config.settle or _SECONDS, policy, reason.strip())

    def as_fields(self, *, may_revert: bool) -> dict[str, Any]:
        """The same as fields of a request; "revert" is decided here and not there."""
        fields: dict[str, Any] = {"level": self.level, "settle": self.seconds}
        if self.policy == "force":
            fields.update(policy="force", reason=self.reason)
        if may_revert or self.policy == "revert":
            fields["may_revert"] = True
        return fields


def no_reason() -> HotReloadError:
    """The refusal of a force that does not say why; nothing was asked of any process."""
    return HotReloadError(
        "nothing is forced without a reason",
        hint="say why, with --reason TEXT: it is written down and shown ever after",
        status="NO_REASON",
    )
