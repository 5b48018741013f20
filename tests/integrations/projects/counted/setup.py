from setuptools import Extension, setup

setup(
    name="counted",
    version="1",
    packages=["counted"],
    package_dir={"": "src"},
    ext_modules=[Extension("counted._count", ["src/counted/_count.c"])],
)
