"""The agent: the thread in a server process that takes pushes.

::

    listener.py      the thread, the socket, one client at a time
    conversation.py  one client's bytes, and how long it may take
    peer.py          who is at the other end
    desk.py          requests and replies
    policy.py        who may push what
    sealed.py        the artefact's way in
    session.py       the two phases, and what a process does that is left alone between them
    change.py        what a push would do here
    terms.py         how threads are to come over, as a request asks for it
    transitions.py   the transition that is open here, and what is written down of it
    restore.py       the current patch for a process that starts later
    probation.py     what becomes of a patch that a process died of
    books.py         the state directory, in one hand
    refusal.py       every way to say no
    health.py        what this process and its host allow
    process.py       one agent per process, also after a fork
    gunicorn.py      the same for gunicorn's workers

It is off unless asked for: ``hotreload.enable(agent=True)``, ``HOTRELOAD_AGENT=1`` with ``hotreload run``, or
:mod:`hotreload.agent.gunicorn`.
"""
