"""What the layouts share: images by their folders, and the tree of training folder, test folder and ground truth."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from unmask.datasets.inventory import Inventory
from unmask.datasets.labels import plain
from unmask.datasets.layouts.folder_names import is_good, like_defects, like_good
from unmask.datasets.layouts.links import in_place_of_links
from unmask.datasets.masks import is_empty
from unmask.datasets.wording import placed
from unmask.errors import DatasetError
from unmask.imaging.listing import Listing, walk
from unmask.imaging.mask_folders import is_ground_truth, is_mask_folder
from unmask.types import Sample

DEFECTIVE = "defective image of the training part"


class Tree:
    """The images of a data set's folder, by folder; the disk is walked once, whatever layouts are tried.

    Args:
        root: the folder, or a file that describes a data set, which has no tree.
        recursive: whether images in folders below those that a layout names belong to it.

    Attributes:
        root: as given.
        recursive: as given.
        listing: all files below the root.
    """

    def __init__(self, root: Path, *, recursive: bool = True) -> None:
        self.root, self.recursive = root, recursive
        self.listing = in_place_of_links(root, walk(root)) if root.is_dir() else Listing(())
        self._images: dict[Path, list[Path]] = defaultdict(list)
        self._folders: dict[Path, list[Path]] = defaultdict(list)
        for file in self.listing.files:
            self._images[file.parent].append(file)
        for folder in sorted(self.listing.folders):
            if folder != root:
                self._folders[folder.parent].append(folder)

    def folders(self, folder: Path) -> list[Path]:
        """List the folders directly in a folder, sorted, without those that are skipped."""
        return list(self._folders.get(folder, ()))

    def images_in(self, folder: Path) -> tuple[Path, ...]:
        """List the images directly in a folder."""
        return tuple(self._images.get(folder, ()))

    def images_under(self, folder: Path) -> tuple[Path, ...]:
        """List the images in a folder and in all folders inside it, also where the tree is not recursive."""
        found = list(self.images_in(folder))
        for inside in self.folders(folder):
            found += self.images_under(inside)
        return tuple(sorted(found))

    def photographs(self, folder: Path, *, good: bool = False) -> tuple[Path, ...]:
        """List the images in a folder and, in a recursive tree, in the folders inside it, but not in those of masks.

        Args:
            folder: to look into.
            good: also leave out folders inside it that are named like defects.
        """
        found = list(self.images_in(folder))
        for inside in self.folders(folder) if self.recursive else ():
            if not is_mask_folder(inside.name) and not (good and like_defects(inside.name)):
                found += self.photographs(inside, good=good)
        return tuple(sorted(found))

    def good_images(self, folders: Iterable[Path]) -> tuple[Path, ...]:
        """List the images of folders of good images, but not those in folders inside that are named like defects."""
        return tuple(path for folder in folders for path in self.photographs(folder, good=True))

    def matching(self, *names: str | Callable[[str], bool]) -> list[Path]:
        """Find folders by a path below the root; case and outer spaces of their names do not count.

        Args:
            names: of the folders on the way, as `plain` writes them, or what says whether a name will do.
        """
        found = [self.root]
        for name in names:
            found = [
                inside
                for folder in found
                for inside in self.folders(folder)
                if (plain(inside.name) == name if isinstance(name, str) else name(inside.name))
            ]
        return sorted(found, key=lambda one: (plain(one.name), one))

    def kinds(self, folders: Iterable[Path]) -> list[tuple[str, Path, Path]]:
        """List (kind, its folder, image) for the images of <folder>/<kind>/.

        A folder labels/ is one of masks, unless the ground truth has a kind of this name.

        Raises:
            DatasetError: a folder of good images lies in a folder of another kind, or a name begins with good and goes
                on in a way that says nothing.
        """
        found = []
        marked = {plain(kind.name) for truth in self.matching(is_ground_truth) for kind in self.folders(truth)}
        for kind in (kind for folder in folders for kind in self.folders(folder)):
            if is_ground_truth(kind.name) or (is_mask_folder(kind.name) and plain(kind.name) not in marked):
                continue
            good = is_good(kind.name)
            images = self.photographs(kind, good=good)
            if images and not good and like_good(kind.name) and plain(kind.name) not in marked:
                raise DatasetError(
                    f"{placed(kind)}: are these images good, or a kind of defect? name the folder good_2, or bad"
                )
            for path in images if not good else ():
                if within := next((name for name in path.parent.relative_to(kind).parts if is_good(name)), None):
                    raise DatasetError(
                        f"{placed(kind)} would be a kind of defect, but a folder {within} lies in it; put folders of "
                        f"kinds directly into {placed(kind.parent)}"
                    )
            found += [(kind.name.strip(), kind, path) for path in images]
        return found


def stem_of(path: Path) -> str:
    """Name a file without its suffix, the same on systems that write accents in one character and in two."""
    return unicodedata.normalize("NFC", path.stem)


def train_and_test(
    layout: str, tree: Tree, good: str | None, test: Sequence[Path] | None = None, truth: Sequence[Path] | None = None
) -> Inventory | None:
    """Take the tree train/good/, test/<kind>/ and ground_truth/<kind>/<stem>_mask.png, or <stem> with any suffix.

    All folders of good images in train/ are learned from, those in validation/ are held out.

    Args:
        layout: its name.
        tree: of the data set.
        good: the name of a folder of good images in train/; None = any that no other layout asks for. Where there is
            none, None is returned.
        test: folders of kinds; None = those named test.
        truth: folders of masks; None = see `truth_of`.
    """
    trains = tree.matching("train", is_good)
    asked = [folder for folder in trains if plain(folder.name) == good]
    if good is None:
        asked = [folder for folder in trains if plain(folder.name) not in ("ok", "normal")]
    if not asked:
        return None
    trains.sort(key=lambda one: one != asked[0])
    found = tree.kinds(tree.matching("test") if test is None else test)
    masks = Masks(tree, truth_of(tree, found) if truth is None else truth, found)
    samples = [Sample(image, not is_good(kind), kind, masks.of(folder, image)) for kind, folder, image in found]
    held_out = tree.good_images(tree.matching("validation", is_good))
    normals, warnings = tree.good_images(trains), several(trains)
    return Inventory(layout, trains[0], normals, tuple(samples), held_out, masks.files, warnings=warnings)


def truth_of(tree: Tree, images: Iterable[tuple[str, Path, Path]]) -> list[Path]:
    """Find the folders of masks: those named ground_truth, or else those such as masks/ with a folder of a kind.

    Args:
        tree: of the data set.
        images: what `Tree.kinds` gave for the test images.
    """
    kinds = {plain(kind) for kind, _, _ in images}
    others = [
        folder
        for folder in tree.matching(is_ground_truth)
        if any(plain(kind.name) in kinds for kind in tree.folders(folder))
    ]
    return tree.matching("ground truth") or others


class Masks:
    """The masks of <truth>/<kind>/, found by the names of test images.

    A mask lies as deep below the folder of its kind as the image does, or bears a name that only one image of the kind
    has. Where two images could claim a mask, neither gets it, so that the check of masks refuses the data set.

    Args:
        tree: of the data set.
        truth: the folders of masks.
        images: what `Tree.kinds` gave for the test images.
    """

    def __init__(self, tree: Tree, truth: Iterable[Path], images: Iterable[tuple[str, Path, Path]]) -> None:
        tops = list(truth)
        self._folders = [kind for top in tops for kind in tree.folders(top)]
        self._claims: Counter[Path | tuple[Path, str]] = Counter()
        for _, folder, image in images:
            self._claims[image.with_name(stem_of(image))] += 1
            self._claims[folder, stem_of(image)] += 1
        self._by_place: dict[tuple[Path, tuple[str, ...], str], Path] = {}
        self._by_stem: dict[tuple[Path, str], list[Path]] = defaultdict(list)
        self._by_folder: dict[tuple[Path, tuple[str, ...]], list[Path]] = defaultdict(list)
        for folder in self._folders:
            for mask in tree.images_under(folder):
                self._by_place.setdefault((folder, _place(folder, mask), stem_of(mask)), mask)
                self._by_stem[folder, stem_of(mask)].append(mask)
                if mask.parent != folder:
                    self._by_folder[folder, _place(folder, mask)].append(mask)
        nested = set() if tree.recursive else {mask for masks in self._by_folder.values() for mask in masks}
        self.files = tuple(mask for top in tops for mask in tree.images_under(top) if mask not in nested)

    def of(self, folder: Path, image: Path) -> tuple[Path, ...]:
        """The mask of an image in the folder of a kind, or none."""
        stem = stem_of(image)
        names = [(truth, name) for truth in self._of_kind(folder) for name in (f"{stem}_mask", stem)]
        placed = [self._by_place.get((truth, _place(folder, image), name)) for truth, name in names]
        if found := [mask for mask in placed if mask is not None]:
            return (found[0],) if self._claims[image.with_name(stem)] == 1 else ()
        named = [masks for one in names if len(masks := self._by_stem.get(one, [])) == 1]
        return (named[0][0],) if named and self._claims[folder, stem] == 1 else ()

    def inside(self, folder: Path, image: Path) -> tuple[Path, ...]:
        """The masks in the folder that bears the name of an image and lies as deep below its kind as the image does."""
        way = (*_place(folder, image), stem_of(image))
        return tuple(mask for truth in self._of_kind(folder) for mask in self._by_folder.get((truth, way), ()))

    def _of_kind(self, folder: Path) -> list[Path]:
        """The folders of masks of a kind: of its own name, or of one that differs in case alone."""
        own = [one for one in self._folders if one.name == folder.name]
        return own or [one for one in self._folders if plain(one.name) == plain(folder.name)]


def _place(folder: Path, file: Path) -> tuple[str, ...]:
    """The folders on the way from one to a file in it."""
    return tuple(unicodedata.normalize("NFC", part) for part in file.parent.relative_to(folder).parts)


def by_mask(pairs: Iterable[tuple[Path, Path | None]]) -> tuple[list[Path], list[Sample]]:
    """Divide images into those that are good (no mask, or one that is zero everywhere) and defective ones with masks.

    Raises:
        DatasetError: a mask cannot be read.
    """
    good, defective = [], []
    for image, mask in pairs:
        if mask is None or is_empty(mask):
            good.append(image)
        else:
            defective.append(Sample(image, True, "defect", (mask,)))
    return good, defective


def good_samples(paths: Iterable[Path]) -> tuple[Sample, ...]:
    """Make good test images of paths."""
    return tuple(Sample(path, False, "good") for path in paths)


def several(good: Sequence[Path]) -> tuple[str, ...]:
    """Tell that there are several folders of good images, where there are."""
    names = " and ".join(folder.name for folder in good)
    return (f"{names} are all folders of good images, and all are used",) if len(good) > 1 else ()


def not_learned_from(samples: Iterable[Sample]) -> dict[Path, str]:
    """Give the reason why defective images of a training part, and their masks, are not used."""
    paths = (path for sample in samples for path in (sample.path, *sample.masks) if isinstance(path, Path))
    return dict.fromkeys(paths, DEFECTIVE)


def defective_in_training(count: int) -> tuple[str, ...]:
    """Warn that defective images of a training part are left out; no warning when there are none."""
    if not count:
        return ()
    return (f"{count} defective images of the training part are not used: only good images are learned from",)
