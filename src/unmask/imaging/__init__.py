"""Files to arrays and back.

images.py        bytes to float32 RGB, resizing, and the pictures that a report shows
decoding.py      image files to arrays of 8 bits, 16 bits or floats, upright
intensity.py     which values of a camera count as black and as white
listing.py       which files of a folder are images, and why the others are skipped
accounting.py    how many files were seen, used and skipped, in words and counts
fingerprints.py  a hash of an image's pixels, and a signature that finds near-duplicates
tiling.py        an image of any size to squares for a detector, and their maps back to one map
components.py    connected regions of a mask
"""
