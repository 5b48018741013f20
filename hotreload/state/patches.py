"""The patch store: what has been committed to which base, for processes that start later.

    patches/BUILD-ID/00001763633871000000.hotpatch     every artefact that was pushed, by sequence number
    patches/BUILD-ID/current                           the name of the one that is live, or "base"

Rolling back changes ``current`` and removes nothing: the newest sequence number stays known, so an older artefact
cannot be passed off as new. What is read back is parsed again from the first byte on; whether its signature is still
good is for the reader's policy.
"""

from __future__ import annotations

from hotreload.artefact import MAX_LEN, Artefact, ArtefactError, parse
from hotreload.state.directory import StateDirectory, StateError, is_hex

__all__ = ["BASE", "PatchStore"]

BASE = "base"

_ROOM = "patches"
_CURRENT = "current"
_SUFFIX = ".hotpatch"
_DIGITS = 20
#: Artefacts kept for each base besides the current one.
KEEP = 32


class PatchStore:
    """The patches of one application."""

    def __init__(self, directory: StateDirectory) -> None:
        self._directory = directory

    def put(self, artefact: Artefact) -> str:
        """Keeps an artefact, which is not current by that; its name is returned.

        Raises:
            ArtefactError: another artefact has its sequence number.
            StateError: it cannot be written.
        """
        build_id, sequence = artefact.manifest.build_id, artefact.manifest.sequence
        name = _name_of(sequence)
        if self._directory.create(_ROOM, _checked(build_id), name, content=artefact.raw):
            self._remove_old(build_id, name)
            return name
        known = self._directory.read(_ROOM, build_id, name, limit=MAX_LEN)
        if known == artefact.raw:
            return name
        if known is not None and not _is_same_but_signed(known, artefact):
            raise ArtefactError(
                f"sequence number {sequence} is taken by another artefact for this base",
                hint="pack it again: the number is the time of the newest source; or give a --sequence",
                status="SEQUENCE_TAKEN",
                sequence=sequence,
            )
        self._directory.write(_ROOM, build_id, name, content=artefact.raw)
        return name

    def current(self, build_id: str) -> Artefact | None:
        """The artefact that is live on that base; None when the base itself is, or nothing was ever pushed.

        Raises:
            ArtefactError: what is kept is damaged, or not for this base.
            StateError: it cannot be read, or is gone.
        """
        name = self.current_name(build_id)
        return None if name == BASE else self.get(build_id, name)

    def current_name(self, build_id: str) -> str:
        """The name of what is live on that base: that of an artefact, or "base"."""
        content = self._directory.read(_ROOM, _checked(build_id), _CURRENT, limit=256)
        name = BASE if content is None else content.decode("ascii", "replace").strip()
        if name != BASE and _sequence_of(name) is None:
            path = self._directory.path_of(_ROOM, build_id, _CURRENT)
            raise StateError(f"{path} names no artefact", hint="it was edited; push again", path=path)
        return name

    def get(self, build_id: str, name: str) -> Artefact:
        """An artefact that was kept."""
        path = self._directory.path_of(_ROOM, _checked(build_id), name)
        raw = self._directory.read(_ROOM, build_id, name, limit=MAX_LEN)
        if raw is None:
            raise StateError(f"{path} is gone", hint="push again", path=path)
        artefact = parse(raw)
        found = artefact.manifest.build_id, artefact.manifest.sequence
        if found != (build_id, _sequence_of(name)):
            raise ArtefactError(
                f"{path} is an artefact for base {found[0]} with sequence number {found[1]}",
                hint="it was moved there; push again",
                path=path,
            )
        return artefact

    def set_current(self, build_id: str, name: str) -> None:
        """Says what is live on that base: the name of an artefact that is kept, or "base"."""
        if name != BASE:
            self.get(build_id, name)
        self._directory.write(_ROOM, _checked(build_id), _CURRENT, content=name.encode("ascii"))

    def newest_sequence(self, build_id: str) -> int | None:
        """The greatest sequence number that was ever put there; None when there was none."""
        return max((sequence for sequence, _ in self._kept(build_id)), default=None)

    def refuse_older(self, artefact: Artefact) -> None:
        """Insists that nothing newer was ever pushed to this base. A rollback is asked for as such, not by replay.

        Raises:
            ArtefactError: something newer was.
        """
        newest = self.newest_sequence(artefact.manifest.build_id)
        if newest is not None and artefact.manifest.sequence < newest:
            raise ArtefactError(
                f"the artefact is older than what this base has had: sequence number {artefact.manifest.sequence}, "
                f"and {newest} was pushed",
                hint="to go back, use `hotreload rollback`; to push this code again, pack it again",
                status="SEQUENCE_OLD",
                sequence=artefact.manifest.sequence,
                newest=newest,
            )

    def names(self, build_id: str) -> list[str]:
        """The artefacts that are kept for a base, oldest first."""
        return [name for _, name in self._kept(build_id)]

    def build_ids(self) -> list[str]:
        """The bases that something is kept for."""
        return [name for name in self._directory.names(_ROOM) if is_hex(name)]

    def _kept(self, build_id: str) -> list[tuple[int, str]]:
        names = self._directory.names(_ROOM, _checked(build_id))
        return sorted((sequence, name) for name in names if (sequence := _sequence_of(name)) is not None)

    def _remove_old(self, build_id: str, new: str) -> None:
        self._directory.sweep(_ROOM, build_id)
        kept = (self.current_name(build_id), new)
        for _, name in self._kept(build_id)[: -KEEP - 1]:
            if name not in kept:
                self._directory.remove(_ROOM, build_id, name)


def _name_of(sequence: int) -> str:
    return f"{sequence:0{_DIGITS}}{_SUFFIX}"


def _sequence_of(name: str) -> int | None:
    digits = name[: -len(_SUFFIX)]
    is_ours = name.endswith(_SUFFIX) and len(digits) == _DIGITS and digits.isascii() and digits.isdigit()
    return int(digits) if is_ours else None


def _is_same_but_signed(known: bytes, artefact: Artefact) -> bool:
    """Whether two artefacts differ in who signed them and in nothing else."""
    try:
        manifest = parse(known).manifest
    except ArtefactError:
        return False
    return manifest._replace(signer="") == artefact.manifest._replace(signer="")


def _checked(build_id: str) -> str:
    if not is_hex(build_id):
        raise StateError(f"{build_id!r} is no build-id", hint="a build-id is written in lower-case hexadecimal")
    return build_id
