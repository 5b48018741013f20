"""Builds the one extension of the example; everything else in this directory runs from where it is."""

from setuptools import Extension, setup

setup(
    name="hotreload-example-server",
    version="1.0",
    py_modules=[],
    ext_modules=[
        Extension(
            "render",
            ["render.c"],
            extra_compile_args=["-O2", "-std=c11", "-fvisibility=hidden", "-Wall", "-Wextra"],
            libraries=["m"],
        )
    ],
)
