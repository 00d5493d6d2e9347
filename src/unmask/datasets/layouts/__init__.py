"""The folder trees that are recognised: one function each, which gives an inventory or None where the tree is another.

mvtec.py      MVTec AD, LOCO AD, 3D-AD and AD 2, MPDD, BTAD
visa.py       VisA with its CSV, in its 1cls layout, and as it was downloaded
kolektor.py   KolektorSDD and KolektorSDD2
dagm.py       DAGM 2007
coco.py       COCO and Datumaro; annotations.py and outlines.py are what both share
foreign.py    annotations of other programs, refused by name
real_iad.py   Real-IAD, by its JSON file
folders.py    OCT2017, good/ beside bad/, and a plain folder of good images
folder_names.py  what the names of folders mean
beside.py     annotation files and masks beside images
links.py      links to folders inside a data set
trees.py      what these functions share
"""

from __future__ import annotations

from collections.abc import Callable

from unmask.datasets import manifests
from unmask.datasets.inventory import Inventory, abbreviated
from unmask.datasets.labels import plain
from unmask.datasets.layouts.beside import check_beside
from unmask.datasets.layouts.coco import annotated
from unmask.datasets.layouts.dagm import dagm
from unmask.datasets.layouts.folders import flat, good_and_bad, oct2017
from unmask.datasets.layouts.foreign import foreign
from unmask.datasets.layouts.kolektor import kolektor_sdd, kolektor_sdd2
from unmask.datasets.layouts.mvtec import btad, mvtec, mvtec_3d, mvtec_ad_2, mvtec_loco
from unmask.datasets.layouts.real_iad import real_iad
from unmask.datasets.layouts.trees import Tree
from unmask.datasets.layouts.visa import visa_1cls, visa_csv, visa_tree
from unmask.datasets.wording import placed
from unmask.errors import DatasetError
from unmask.imaging.accounting import sentence
from unmask.types import Skip


def manifest(tree: Tree) -> Inventory | None:
    """A CSV file; see `manifests.manifest`."""
    return manifests.manifest(tree.root)


LAYOUTS: tuple[Callable[[Tree], Inventory | None], ...] = (  # in this order: the special ones before the general ones
    annotated,
    real_iad,
    manifest,
    visa_csv,
    kolektor_sdd,
    kolektor_sdd2,
    dagm,
    mvtec_3d,
    mvtec_ad_2,
    mvtec_loco,
    visa_1cls,
    mvtec,
    btad,
    oct2017,
    visa_tree,
    good_and_bad,
    foreign,
    flat,
)
LISTED = (annotated, real_iad, manifest, visa_csv)  # a file says what each image is
KNOWN = (
    "MVTec AD, AD 2, 3D-AD and LOCO AD, MPDD, BTAD, VisA, Real-IAD, KolektorSDD, DAGM, OCT2017, COCO, Datumaro, good/ "
    "and bad/, a folder of good images, a CSV manifest"
)


def recognise(tree: Tree) -> Inventory:
    """Give the inventory of the first layout that fits and has good images.

    Raises:
        DatasetError: no layout fits, or the layout that fits has no good images.
    """
    empty: Inventory | None = None
    for layout in LAYOUTS:
        inventory = layout(tree)
        if inventory is not None and inventory.normals:
            if layout not in LISTED and tree.root.is_dir():
                check_beside((*inventory.normals, *inventory.held_out, *(sample.path for sample in inventory.test)))
            return inventory
        empty = empty or inventory
    root = tree.root
    if empty is not None:
        raise DatasetError(f"{root}: {empty.layout}, but no good images to learn from; put some into {empty.root}")
    inside = [one.name for one in tree.folders(root) if any(plain(part.name) == "train" for part in tree.folders(one))]
    if inside:
        several = f"{root} holds several data sets ({abbreviated(inside)})"
        raise DatasetError(f"{several}; give one, such as {root / inside[0]}")
    if link := next((one.path for one in tree.listing.skipped if one.reason == Skip.TWICE and one.path.is_dir()), None):
        raise DatasetError(
            f"{placed(tree.root)}: no layout recognised; the link {link.relative_to(root)} leads to a folder that is "
            "read under its own name; put the folder in place of the link"
        )
    if tree.listing.skipped and not tree.listing.files:
        found = sentence(tree.listing.seen, tree.listing.skipped)
        raise DatasetError(f"{root}: no images in it. {found}; give a folder of good images, or a data set")
    raise DatasetError(f"{placed(root)}: no layout recognised (or the folder is empty); known are {KNOWN}")
