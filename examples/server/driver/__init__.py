"""The parts of the demo: prepared edits, a load of requests, the server, what is checked, how it is shown."""
