"""Frozen networks, and what is made of their feature maps.

backbones.py      networks by name
maps.py           their maps of all images, computed once, in memory or in a file
standard_maps.py  the same, each channel standardised on the normal images
subspace.py       principal component analysis of whole maps
neighbours.py     the distance to the nearest normal feature
coreset.py        a few vectors that stand for many
finch.py          clustering by first neighbours
turned.py         turned and mirrored copies of images
"""
