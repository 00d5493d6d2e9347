"""Files to arrays and back.

images.py        bytes to float32 RGB, resizing, and the pictures that a report shows
options.py       what a user says about how images are read; a model file keeps it
pixels.py        what an image gave: values, full scale, name, notes and damage
decoding.py      image files to pixels: a parser for each kind, and which page is taken
formats.py       kinds of image files, told from their first bytes
opening.py       opening a file, and turning what its parser raises into one line
jpeg.py          JPEG with what is lost of it; jpeg2000.py, png.py and pnm.py at their own depth
tiff.py          TIFF at every depth, with bands; tiff_pages.py tells its pictures from thumbnails,
                 and tiff_damage.py whether parts of it are missing
pillow.py        what Pillow decodes, upright
colour.py        ICC profiles to sRGB, at 8 and 16 bits
codecs.py        decoders that the base install does without
intensity.py     which values of a camera count as black and as white
listing.py       which files of a folder are images, and why the others are skipped
mask_folders.py  names of folders that hold masks
accounting.py    how many files were seen, used and skipped, in words and counts
properties.py    format, size, colour and quality of an image, and what differs from those of good images
noise.py         whether images hold any noise, and copies of them with some
fingerprints.py  a hash of an image's pixels, and a signature that finds near-duplicates
tiling.py        an image of any size to squares for a detector, and their maps back to one map
region.py        a region of interest, as a user names it
writing.py       files that are written whole or not at all
components.py    connected regions of a mask
"""
