"""Builds the extension module for every CPython from 3.11 on, with the stable ABI."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "ctr_streamer_native",
            sources=["src/index.c", "src/module.c"],
            depends=["src/index.h"],
            define_macros=[("Py_LIMITED_API", "0x030B0000")],
            extra_compile_args=["-std=c11", "-O3", "-Wall", "-Wextra"],
            py_limited_api=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
