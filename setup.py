"""What ``pyproject.toml`` cannot say: the C core is built through cffi."""

from setuptools import setup

setup(cffi_modules=["csrc/build_core.py:ffibuilder"])
