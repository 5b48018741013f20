"""From sources to a hot extension, and from an edited source to a fresh object."""
