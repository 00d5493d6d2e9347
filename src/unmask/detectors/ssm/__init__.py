"""SSM: self-supervised masking (arXiv 2205.06568).

detector.py          learn to restore, the score
refinement.py        hide, restore, compare, uncover, and again
restorer.py          the interface of both kinds of restorers
feature_restorer.py  restores hidden tokens of cached feature maps
gaussian.py          the conditional Gaussian that does it
pixel_restorer.py    restores hidden pixels, as in the paper
network.py           the conditional autoencoder that does it
explanation.py       a pass as pictures
picture.py           features to a picture for explanations
"""

from unmask.detectors.ssm.detector import SSM

__all__ = ["SSM"]
