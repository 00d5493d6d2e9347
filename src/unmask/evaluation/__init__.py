"""A fitted inspector against labels.

evaluate.py         the whole of it: check the test set, score it once, measure, report
selection.py        which test images are measured
dataset_metrics.py  the figures of a test set, gathered one result at a time
metrics.py          of image scores: areas under curves, rates, intervals
pixel_metrics.py    of maps: pixel AUROC, AP, AUPRO, sPRO
curves.py           curves over thresholds, and the areas under them
histogram.py        counts of float32 values, from which exact curves over many pixels are read
progress.py         progress of long work
"""
