"""ISSTAD: incremental self-supervised learning based on transformer (arXiv 2303.17354).

detector.py        the two stages and the score
tokens.py          the interface of both kinds of tokens
feature_tokens.py  tokens from the cached maps of a frozen network
pixel_tokens.py    tokens from a masked autoencoder, as in the paper
decoder.py         the growing decoder and its two losses
fusion.py          the terms of the score, standardised and added
transformer.py     the block that encoder and decoder share
mae.py             the masked autoencoder
mae_weights.py     its public weights, every tensor checked
damage.py          seeded damage of images
feature_damage.py  seeded damage of feature maps
"""

from unmask.detectors.isstad.detector import ISSTAD

__all__ = ["ISSTAD"]
