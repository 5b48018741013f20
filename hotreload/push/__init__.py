"""The push: one change into every process of an application, or into none; read ``coordinator.py`` first."""
