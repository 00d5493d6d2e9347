"""A fitted inspector against labels.

evaluate.py   the test set, scored once and measured
metrics.py    areas under curves, rates, intervals
histogram.py  counts of float32 values, from which exact curves over many pixels are read
"""
