"""The command line: parse, call one function, print.

app.py         the commands, and what becomes of errors
fitting.py     fit, export
inspecting.py  inspect
measure.py     evaluate, bench, compare
options.py     options with their help texts
arguments.py   checks before long work, loading
console.py     notes, failures, progress
"""

from unmask.cli.app import main

__all__ = ["main"]
