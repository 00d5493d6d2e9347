"""The command line: parse, call one function, print.

app.py         the commands, and what becomes of errors
signals.py     Ctrl-C, SIGTERM and SIGHUP
failures.py    what is no mistake of unmask: a disk, memory, a broken installation
data.py        data
fitting.py     fit, export
inspecting.py  inspect
calibrating.py calibrate
measure.py     evaluate, bench, compare
options.py     options with their help texts
arguments.py   checks before long work, loading
console.py     notes, failures, progress
"""

from unmask.cli.app import main

__all__ = ["main"]
