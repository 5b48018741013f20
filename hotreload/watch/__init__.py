"""The helper process beside the server: it sees a save, has a patch made, and hands it to every process.

::

    saved file ─▶ files ─▶ burst ─▶ loop ─▶ workshop (another thread) ─▶ loop ─▶ broker ─▶ processes
                                     ▲                                             │
                                     └──────────────── replies ────────────────────┘

One thread decides (``loop``), woken through one pipe (``mailbox``); the compiler is waited for in another, and
watchdog has its own. Nothing here is imported by a server.
"""
