"""From changed functions to a patch: one shared library with a flat link table."""
