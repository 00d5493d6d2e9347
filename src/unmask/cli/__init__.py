"""The command line: parse, call one function, print.

app.py        the commands
measure.py    those that measure
arguments.py  what commands share
console.py    notes, failures, progress
"""

from unmask.cli.app import main

__all__ = ["main"]
