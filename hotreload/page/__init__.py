"""The page of ``hotreload run --ui``: what is live where, how it came about, and the way back.

::

    loop ──▶ book ──▶ feed ──▶ server ──(events)──▶ page.js          token: sees all, may go back
                        └────▶ server ──(events)──▶ live.js          read-only token: outcome, module, generation
             loop ◀── go_to ◀─ server ◀──(POST)──── page.js

It lives in the helper process, in threads beside the loop's, and is imported there only when a page was asked for. The
one file for a server is ``tag``: it makes a text out of a variable of the environment.

There is no framework behind it: a few routes to one person on this machine need none, and a development server must
not get another's dependencies.
"""
