"""The folder trees that are recognised: each function looks at a folder and returns what it found, or None."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from unmask.datasets.found import Found, folders, set_apart
from unmask.datasets.manifests import manifest, visa_csv
from unmask.datasets.masks import saturations
from unmask.imaging.images import list_images
from unmask.types import Sample

GOOD_NAMES = ("good", "ok", "normal")
BAD_NAMES = ("bad", "ng", "ko", "defect", "defective", "anomaly", "anomalous")
MPDD_OBJECTS = ("bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate", "tubes")
TEST_SHARE = 0.2  # of the good images, where a data set brings no test normals of its own


def mvtec_loco(root: Path) -> Found | None:
    """MVTec LOCO AD: train/good, validation/good (held out), test/<kind>, ground_truth/<kind>/<stem>/000.png ...

    https://www.mvtec.com/company/research/datasets/mvtec-loco
    """
    train, validation = root / "train" / "good", root / "validation" / "good"
    if not (train.is_dir() and validation.is_dir()):
        return None
    test = []
    for kind, image in _kinds(root / "test"):
        folder = root / "ground_truth" / kind / image.stem
        masks = tuple(list_images(folder)) if folder.is_dir() else ()
        test.append(Sample(image, not _good(kind), kind, masks))
    config = root / "defects_config.json"
    return Found(
        layout="MVTec LOCO AD",
        root=train,
        normals=tuple(list_images(train)),
        held_out=tuple(list_images(validation)),
        test=saturations(test, config) if config.is_file() else tuple(test),
        masks=_all_images(root / "ground_truth"),
        warnings=() if config.is_file() else ("defects_config.json is missing: saturation areas are unknown",),
    )


def mvtec(root: Path) -> Found | None:
    """MVTec AD: train/good, test/<kind>, ground_truth/<kind>/<stem>_mask.png; MPDD has the same tree.

    MPDD is named when the folder bears the name of one of its objects. https://www.mvtec.com/company/research/datasets/mvtec-ad
    """
    layout = "MPDD" if root.resolve().name in MPDD_OBJECTS else "MVTec AD"
    return _train_and_test(root, root / "train" / "good", layout)


def btad(root: Path) -> Found | None:
    """BTAD: train/ok, test/ok, test/ko, ground_truth/ko/<stem>.png or .bmp (arXiv 2104.10036)."""
    return _train_and_test(root, root / "train" / "ok", "BTAD")


def oct2017(root: Path) -> Found | None:
    """OCT2017 (Kermany 2018): train/NORMAL is learnt from, the whole of test is judged, val is not used; no masks.

    The diseased images of train/ are never opened.
    """
    found = _train_and_test(root, root / "train" / "NORMAL", "OCT2017")
    if found is None or not (root / "val").is_dir():
        return found
    return Found(found.layout, found.root, found.normals, found.test, warnings=("val/ is not used",))


def visa_tree(root: Path) -> Found | None:
    """VisA without its CSV: Data/Images/{Normal,Anomaly}, Data/Masks/Anomaly (arXiv 2207.14315)."""
    normal = root / "Data" / "Images" / "Normal"
    if not normal.is_dir():
        return None
    bad = [("anomaly", path) for path in _all_images(normal.parent / "Anomaly")]
    return _with_test_normals("VisA", normal, bad, _all_images(root / "Data" / "Masks" / "Anomaly"))


def good_and_bad(root: Path) -> Found | None:
    """A folder good/ and perhaps bad/ beside it; the folders in bad/ name the kinds; no masks."""
    good = next((folder for folder in folders(root) if _good(folder.name)), None)
    if good is None:
        return None
    bad = []
    for folder in folders(root):
        if folder.name.lower() in BAD_NAMES:
            bad += [(folder.name, path) for path in list_images(folder)] + _kinds(folder)
    if not bad:
        return Found("a folder of good images", good, tuple(list_images(good)))
    return _with_test_normals("good and bad", good, bad)


def flat(root: Path) -> Found | None:
    """Images directly in a folder: all good, nothing to be judged on."""
    images = tuple(list_images(root)) if root.is_dir() else ()
    return Found("a folder of good images", root, images) if images else None


LAYOUTS: tuple[Callable[[Path], Found | None], ...] = (
    manifest,
    visa_csv,
    mvtec_loco,
    mvtec,
    btad,
    oct2017,
    visa_tree,
    good_and_bad,
    flat,
)


def _good(kind: str) -> bool:
    return kind.lower() in GOOD_NAMES


def _kinds(root: Path) -> list[tuple[str, Path]]:
    return [(folder.name, path) for folder in folders(root) for path in list_images(folder)]


def _all_images(root: Path) -> tuple[Path, ...]:
    return tuple(list_images(root, recursive=True)) if root.is_dir() else ()


def _train_and_test(root: Path, train: Path, layout: str) -> Found | None:
    if not train.is_dir():
        return None
    masks = _all_images(root / "ground_truth")
    by_name = {(path.parent.name, path.stem): path for path in masks}
    test = []
    for kind, image in _kinds(root / "test"):
        mask = by_name.get((kind, f"{image.stem}_mask"), by_name.get((kind, image.stem)))
        test.append(Sample(image, not _good(kind), kind, (mask,) if mask else ()))
    return Found(layout, train, tuple(list_images(train)), tuple(test), masks=masks)


def _with_test_normals(layout: str, good: Path, bad: Sequence[tuple[str, Path]], masks: tuple[Path, ...] = ()) -> Found:
    """Set a stable share of the good images apart as the test set's normals; no seed moves them."""
    images = list_images(good)
    apart = set_apart(images, good, TEST_SHARE, "test")
    by_stem = {path.stem: path for path in masks}
    test = [Sample(path, False, "good") for path in sorted(apart)]
    for kind, path in bad:
        mask = by_stem.get(path.stem)
        test.append(Sample(path, True, kind, (mask,) if mask else ()))
    warning = f"{len(apart)} of {len(images)} images of {good.name}/ were set apart as the test set's good images"
    normals = tuple(path for path in images if path not in apart)
    return Found(layout, good, normals, tuple(test), masks=masks, warnings=(warning,))
