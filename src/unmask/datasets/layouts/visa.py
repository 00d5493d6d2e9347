"""VisA (arXiv 2207.14315): with the split that its authors published, in its 1cls layout, and as it was downloaded."""

from __future__ import annotations

from collections import Counter

from unmask.datasets.inventory import Inventory, abbreviated
from unmask.datasets.layouts.trees import Tree, stem_of, train_and_test
from unmask.datasets.manifests import read_rows
from unmask.errors import DatasetError
from unmask.types import Sample


def visa_csv(tree: Tree) -> Inventory | None:
    """VisA with its CSV, in the folder (which then holds one object) or beside it.

        split_csv/1cls.csv                        columns object, split, label, image, mask
        candle/Data/Images/Normal/0000.JPG, candle/Data/Images/Anomaly/000.JPG
        candle/Data/Masks/Anomaly/000.png

    Raises:
        DatasetError: the folder holds several objects, or the CSV cannot be read.
    """
    root = tree.root
    top = next((top for top in (root, root.resolve().parent) if (top / "split_csv" / "1cls.csv").is_file()), None)
    if top is None:
        return None
    table = read_rows(top / "split_csv" / "1cls.csv", ("object", "split", "label", "image", "mask"))
    rows = [row for _, row in table]
    present = sorted({row["object"] for row in rows if (top / row["object"]).is_dir()})
    name = root.resolve().name if top != root else present[0] if len(present) == 1 else None
    if name is None:
        raise DatasetError(f"{root} holds {len(present)} objects ({abbreviated(present, 20)}); give the folder of one")
    rows = [row for row in rows if row["object"] == name]
    train = [top / row["image"] for row in rows if row["split"] == "train" and row["label"] == "normal"]
    test = []
    for row in rows:
        if row["split"] == "test":
            bad = row["label"] != "normal"
            masks = (top / row["mask"],) if bad and row["mask"] else ()
            test.append(Sample(top / row["image"], bad, "anomaly" if bad else "good", masks))
    return Inventory("VisA", top, tuple(train), tuple(test)) if rows else None


def visa_1cls(tree: Tree) -> Inventory | None:
    """VisA as its preparation script writes it, recognised by masks that bear the bare names of the images.

    train/good/0000.JPG
    test/good/0001.JPG, test/bad/000.JPG
    ground_truth/bad/000.png
    """
    stems = {stem_of(path) for folder in tree.matching("test", "bad") for path in tree.images_in(folder)}
    masks = [path for folder in tree.matching("ground truth", "bad") for path in tree.images_in(folder)]
    if stems.isdisjoint(stem_of(path) for path in masks):
        return None
    return train_and_test("VisA (1cls)", tree, "good")


def visa_tree(tree: Tree) -> Inventory | None:
    """VisA without its CSV; a share of the good images becomes the test set's.

    Data/Images/Normal/0000.JPG, Data/Images/Anomaly/000.JPG
    Data/Masks/Anomaly/000.png
    """
    normal = tree.matching("data", "images", "normal")
    if not normal:
        return None
    masks = [path for one in tree.matching("data", "masks", "anomaly") for path in tree.images_under(one)]
    by_stem = {stem_of(path): path for path in masks}
    images = [path for one in tree.matching("data", "images", "anomaly") for path in tree.photographs(one)]
    stems = Counter(map(stem_of, images))
    test = []
    for path in images:
        mask = by_stem.get(stem_of(path)) if stems[stem_of(path)] == 1 else None
        test.append(Sample(path, True, "anomaly", (mask,) if mask else ()))
    normals = tree.good_images(normal)
    return Inventory("VisA", normal[0], normals, tuple(test), masks=tuple(masks), draws_test_normals=True)
