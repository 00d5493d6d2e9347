"""Detectors x data sets x seeds, measured by one protocol: fit on normals, calibrate on held-out normals, test once.

methods.py      what is measured, as people name it
job.py          what one row asks for: a method, a data set, a seed
row.py          one row, measured
foreign.py      detectors of other people, by a command that writes maps
anomalib_worker.py  such a command, for anomalib
robustness.py   the same test images, mildly disturbed
leaks.py        what a protocol that looks at the test set would have claimed
cost.py         time, memory, energy, and the machine
processes.py    processes on Linux, macOS and Windows
row_process.py  a row in a process of its own
places.py       where rows are measured: here, or on a Ray cluster
lock.py         one benchmark at a time writes into a folder
running.py      all rows, resumed
results.py      rows to files and back, and to means
comparison.py   which differences are more than chance
summary.py      a run as text
scaling.py      how time and memory grow
plots.py, galleries.py, page.py  the same as one page for people
"""
