"""What one application keeps on disk while its processes come and go: patches, decisions, quarantine, audit trail.

::

    STATE/                    0700, owned by the service's user, opened without following links, checked every time
    ├── sockets/PID.sock      one for each process
    ├── decisions/PUSH        "commit" or "abort": the first to write it is right
    ├── patches/BUILD-ID/     SEQUENCE.hotpatch ...  and `current`: the name of the committed one, or "base"
    ├── bases/BUILD-ID.py     the texts that Python modules with marked functions were loaded from
    ├── quarantine/SHA256     why this artefact is not applied again
    └── audit.jsonl           one line for each event, appended and never changed

Servers and the command line both read and write here, so nothing in this room is locked for longer than a rename: a
process that is stopped in the middle of anything holds up nobody.
"""

from __future__ import annotations

from hotreload.state.audit import Audit, AuditError
from hotreload.state.bases import BaseTexts
from hotreload.state.decisions import Decisions
from hotreload.state.directory import StateDirectory, StateError
from hotreload.state.patches import PatchStore
from hotreload.state.place import app_name, state_path
from hotreload.state.quarantine import Quarantine

__all__ = [
    "Audit",
    "AuditError",
    "BaseTexts",
    "Decisions",
    "PatchStore",
    "Quarantine",
    "StateDirectory",
    "StateError",
    "app_name",
    "state_path",
]
