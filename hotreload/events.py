"""The names of everything that is told about a reload: what varies is a field, the name never does.

Each is a noun and a past participle. The same names are used in the log of the helper process, in what
``hotreload.subscribe`` hands to a callback, and over the socket between the two.
"""

from __future__ import annotations

__all__ = [
    "AGENT_ABORTED",
    "AGENT_COMMITTED",
    "AGENT_FAILED",
    "AGENT_PREPARED",
    "AGENT_REFUSED",
    "AGENT_STARTED",
    "AGENT_TRIED",
    "BUILD_DISCARDED",
    "BUILD_PROLONGED",
    "EXTENSION_FOUND",
    "EXTENSION_MISSED",
    "EXTENSION_REFUSED",
    "GENERATION_RETIRED",
    "GENERATION_STAGED",
    "HELPER_STARTED",
    "HELPER_STOPPED",
    "PATCH_DELIVERED",
    "PATCH_QUARANTINED",
    "PATCH_REFUSED",
    "PATCH_RESTORED",
    "PATCH_WITHHELD",
    "PROCESS_CONNECTED",
    "PROCESS_DISCONNECTED",
    "PROCESS_REFUSED",
    "PROGRAM_MISSED",
    "RELOAD_FINISHED",
    "SWAP_COMMITTED",
    "SWAP_ROLLED_BACK",
    "TRANSITION_COMPLETED",
    "TRANSITION_FORCED",
    "TRANSITION_REVERSED",
    "TRANSITION_STALLED",
    "TRANSITION_STARTED",
    "WATCH_DEGRADED",
]

# One line per save and module, with everything that is known about it.
RELOAD_FINISHED = "reload.finished"
# A build was thrown away because a file was saved while the compiler read it; another one follows.
BUILD_DISCARDED = "build.discarded"
# A build takes longer than half a second; told on a terminal only.
BUILD_PROLONGED = "build.prolonged"

# What happens to one patch in one process.
GENERATION_STAGED = "generation.staged"
SWAP_COMMITTED = "swap.committed"
SWAP_ROLLED_BACK = "swap.rolled_back"
PATCH_REFUSED = "patch.refused"
# Its code was proven unused and is not mapped any more.
GENERATION_RETIRED = "generation.retired"

# Threads move to the other side one by one: when that began, turned round, lasted too long, and was over.
TRANSITION_STARTED = "transition.started"
TRANSITION_REVERSED = "transition.reversed"
TRANSITION_STALLED = "transition.stalled"
TRANSITION_FORCED = "transition.forced"
TRANSITION_COMPLETED = "transition.completed"

# A process that came later took the newest patch.
PATCH_DELIVERED = "patch.delivered"

# What the helper process sees of the program.
EXTENSION_FOUND = "extension.found"
EXTENSION_REFUSED = "extension.refused"
EXTENSION_MISSED = "extension.missed"
PROGRAM_MISSED = "program.missed"
PROCESS_CONNECTED = "process.connected"
PROCESS_DISCONNECTED = "process.disconnected"
PROCESS_REFUSED = "process.refused"

# What an agent did with a push, in its own process.
AGENT_STARTED = "agent.started"
AGENT_PREPARED = "agent.prepared"
AGENT_TRIED = "agent.tried"
AGENT_COMMITTED = "agent.committed"
AGENT_ABORTED = "agent.aborted"
AGENT_REFUSED = "agent.refused"
AGENT_FAILED = "agent.failed"
# What was done without a push: the current patch at an import, and what a crash led to.
PATCH_RESTORED = "patch.restored"
PATCH_WITHHELD = "patch.withheld"
PATCH_QUARANTINED = "patch.quarantined"

# The helper process itself.
HELPER_STARTED = "helper.started"
HELPER_STOPPED = "helper.stopped"
WATCH_DEGRADED = "watch.degraded"
