"""Detectors x data sets x seeds, measured by one protocol: fit on normals, calibrate on held-out normals, test once.

methods.py      what is measured, as people name it
measurement.py  the figures of one test set, looked at once
robustness.py   the same test images, mildly disturbed
cost.py         time, memory, energy, and the machine
leaks.py        what a protocol that looks at the test set would have claimed
foreign.py      other people's detectors, by a command that writes maps
anomalib_worker.py  such a command, for anomalib
row.py          one row: a method, a data set, a seed
running.py      all rows: in processes of their own, resumed, on one machine or on many
results.py      rows to files and back, and to means
comparison.py   which differences are more than chance
summary.py      a run in words and columns
scaling.py      how time and memory grow
plots.py, galleries.py, page.py  the same as one page for people
"""
