"""What stands between a detector and a verdict.

inspector.py        judges images; what computes is a backend
fitting.py          good images to a calibrated inspector
loading.py          a model file to an inspector, without torch where possible
scoring.py          images to scores and maps of their own size
sources.py          what users call images
training_images.py  good images made into squares for a detector
torch_backend.py    a fitted detector as a backend, and its model file
exported.py         exported graphs as backends, without torch
export.py           a model to ONNX or OpenVINO, calibrated anew and compared
graphs.py           a detector's graph as a file
calibration.py      held-out normal scores to thresholds, and regions above them
guarantee.py        what n scores can promise, on average and of one fit
held_out.py         held-out images, scored as new ones will be
checking.py         good images decoded once, and what is known of them
division.py         which are learned from and which are held out
looks.py            what good images look like
recalibration.py    new thresholds from new good images
history.py          the calibrations of a model file
model_file.py       tensors and JSON in one file
saving.py           files written anew with other facts
exported_text.py    the text in an exported file
self_test.py        a model file's test, repeated whenever it is opened
explanation.py      the steps of a verdict as pictures
"""
