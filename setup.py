"""What ``pyproject.toml`` cannot say: the C core is built through cffi, and a small module against the Python API."""

from glob import glob

from setuptools import Extension, setup

state = Extension(
    "hotreload._state",
    sources=sorted(glob("csrc/python/*.c")),
    depends=["csrc/python/state.h", "hotreload/include/hotreload.h"],
    include_dirs=["csrc/python", "hotreload/include"],
    libraries=["dl"],
    extra_compile_args=["-std=gnu11", "-O2", "-g", "-fvisibility=hidden", "-Wall", "-Wextra"],
)

setup(cffi_modules=["csrc/build_core.py:ffibuilder"], ext_modules=[state])
