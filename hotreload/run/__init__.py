"""Turns hot reload on in a program: from outside (``hotreload run``) or from its own code (``hotreload.enable``).

::

    hotreload run app.py ──▶ launcher ──┬─ spawns ─▶ helper process (hotreload.watch)
                                        └─ becomes ▶ python app.py
                                                       └─ bootstrap/sitecustomize ─▶ link ─▶ socket ─▶ helper

Only ``switch``, ``link`` and what ``link`` stands on are ever imported by a server; they are light.
"""
