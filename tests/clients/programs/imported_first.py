"""Runs a program whose libraries are there before it patches: `MODULES PROGRAM ARGS...`."""

import importlib
import runpy
import sys

modules = sys.argv[1].split(",")
del sys.argv[:2]
for name in ["crowd", *modules]:
    importlib.import_module(name)
runpy.run_path(sys.argv[0], run_name="__main__")
