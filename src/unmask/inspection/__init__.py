"""What stands between a detector and a verdict.

inspector.py    fit, calibrate, inspect, save, load
judging.py      from images to verdicts, with torch or without
exported.py     an exported model without torch
export.py       a fitted model to ONNX or OpenVINO
calibration.py  held-out normal scores to thresholds, and regions above them
model_file.py   tensors and JSON in one file
self_test.py    a model file's test, repeated whenever it is opened
explanation.py  the steps of a verdict as pictures
allocator.py    memory that is used again
"""
