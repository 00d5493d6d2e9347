"""Frozen networks, and what is computed from their feature maps.

backbones.py      networks by name
hub.py            public weights by timm's names
maps.py           maps of all images, each computed once
store.py          arrays of all images, in memory or in a file on a disk
standard_maps.py  maps with each channel standardised on the normal images
subspace.py       principal component analysis of whole maps
neighbours.py     the distance to the nearest normal feature
coreset.py        a few vectors that stand for many
finch.py          clustering by first neighbours
turned.py         turned and mirrored copies of images
"""

import unmask.training  # noqa: F401 - it imports torch, which its settings must precede
