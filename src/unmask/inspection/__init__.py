"""What stands between a detector and a verdict.

inspector.py        judges images; what computes is a backend
fitting.py          good images to a calibrated inspector
loading.py          a model file to an inspector, without torch where possible
scoring.py          images to scores and maps of their own size
sources.py          what users call images
training_images.py  good images checked once, and made into squares
torch_backend.py    a fitted detector as a backend, and its model file
exported.py         exported graphs as backends, without torch
export.py           a model to ONNX or OpenVINO, calibrated anew and compared
graphs.py           a detector's graph as a file
calibration.py      held-out normal scores to thresholds, and regions above them
model_file.py       tensors and JSON in one file
self_test.py        a model file's test, repeated whenever it is opened
explanation.py      the steps of a verdict as pictures
"""
