"""The texts that marked Python modules were loaded from, so that a push made on this host can compare with them.

    bases/BUILD-ID.py    BUILD-ID is how the SHA-256 of the text itself begins

A deployment writes its new files over the old ones while the old ones run, so what a process has loaded may be nowhere
else any more. Each text is written once, by whichever process is first; what does not hash to its name is not believed.
"""

from __future__ import annotations

from hotreload.artefact import MAX_TEXT_LEN
from hotreload.python.payload import build_id_of
from hotreload.state.directory import StateDirectory, StateError, is_hex

__all__ = ["BaseTexts"]

_ROOM = "bases"
_SUFFIX = ".py"
_ID_LEN = 40
#: So many texts are kept; of more the oldest go.
KEEP = 512


class BaseTexts:
    """The base texts of one application."""

    def __init__(self, directory: StateDirectory) -> None:
        self._directory = directory

    def keep(self, text: bytes) -> bool:
        """Keeps a text, for its owner only; False when it was there already.

        Raises:
            StateError: it is longer than a text may be, or cannot be written; nothing was.
        """
        if len(text) > MAX_TEXT_LEN:
            raise StateError(f"a text of {len(text):,} bytes is over the limit of {MAX_TEXT_LEN:,} and is not kept")
        name = _name_of(build_id_of(text))
        if self._directory.age_of(_ROOM, name) is not None:
            return False
        if not self._directory.create(_ROOM, name, content=text):
            return False
        self._remove_old()
        return True

    def get(self, build_id: str) -> bytes | None:
        """The text that a build-id is of; None when it is not kept.

        Raises:
            StateError: what is kept under that name is another text, or cannot be read.
        """
        name = _name_of(build_id)
        text = self._directory.read(_ROOM, name, limit=MAX_TEXT_LEN)
        if text is not None and build_id_of(text) != build_id:
            path = self._directory.path_of(_ROOM, name)
            raise StateError(f"{path} is not the text that it was", hint="it was edited; remove it", path=path)
        return text

    def _remove_old(self) -> None:
        names = self._directory.names(_ROOM)
        if len(names) > KEEP:
            ages = {name: self._directory.age_of(_ROOM, name) or 0.0 for name in names}
            for name in sorted(names, key=lambda name: ages[name])[KEEP:]:
                self._directory.remove(_ROOM, name)
        self._directory.sweep(_ROOM)


def _name_of(build_id: str) -> str:
    if len(build_id) != _ID_LEN or not is_hex(build_id):
        raise StateError(f"{build_id!r} is no build-id of a Python module", hint="40 digits, lower-case hexadecimal")
    return build_id + _SUFFIX
