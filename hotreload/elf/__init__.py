"""Reading and rewriting ELF files and their debug information: what build, diff and patch stand on."""
