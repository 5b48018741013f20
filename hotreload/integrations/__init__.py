"""Where other tools load hotreload by name: pytest's plugin, IPython's extension.

Each imports what it works with when it is used, so that being installed costs nothing.
"""
