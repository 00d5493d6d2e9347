"""SSM: self-supervised masking (arXiv 2205.06568).

detector.py          hide, restore, progressively uncover, and the score
refinement.py        one pass of the refinement, and how it looks
feature_restorer.py  restores hidden tokens of cached feature maps
gaussian.py          the conditional Gaussian that does it
pixel_restorer.py    restores hidden pixels, as in the paper
network.py           the conditional autoencoder that does it
painter.py           features to a picture for people to look at
"""

from unmask.detectors.ssm.detector import SSM

__all__ = ["SSM"]
