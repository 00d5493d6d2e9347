"""What the names of folders mean: good images, bad ones, defects, parts of a data set."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from unmask.datasets.labels import BAD_WORDS, FAILED_WORDS, Meaning, meaning, plain
from unmask.imaging.mask_folders import is_mask_folder

POSITIONS = frozenset({"pos", "positive"})  # pos1 and pos2 are positions of a camera
# Words in the names of folders whose images nobody means to learn from as good ones.
DEFECT_WORDS = ((BAD_WORDS | FAILED_WORDS) - POSITIONS) | frozenset(
    (
        *("fault", "faults", "rejects", "scratch", "scratches", "scratched", "crack", "cracks", "cracked", "dent"),
        *("dents", "dented", "hole", "holes", "stain", "stains", "stained", "contamination", "broken", "damage"),
        *("missing", "scrap", "bent", "burr", "burrs", "chipped", "rust", "corrosion", "tear", "torn", "flaw"),
        *("flaws", "wrong", "deformed", "deformation", "misplaced", "nogood", "outliers", "def", "defekt", "defekte"),
        *("kratzer", "riss", "risse", "fehler", "schrott", "defaut", "defauts", "rebut", "rebuts", "scarto", "scarti"),
    )
)
DEFECT_PHRASES = (*(word for word in DEFECT_WORDS if " " in word), "no ok")
PARTS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "eval", "test public"})
# Words that say which images, and nothing about whether they are good.
WHICH = frozenset(
    (
        *("day", "days", "tag", "cam", "cams", "camera", "kamera", "line", "linie", "lot", "batch", "charge", "shift"),
        *("schicht", "week", "station", "set", "series", "session", "run", "part", "parts", "teil", "teile", "piece"),
        *("pieces", "sample", "samples", "image", "images", "img", "imgs", "photo", "photos", "picture", "pictures"),
        *("bild", "bilder", "front", "back", "top", "bottom", "side", "left", "right", "new", "old", "more", "train"),
        *("test", "copy", "v"),
    )
)
PLAINLY_GOOD = frozenset({"good", "ok", "okay", "normal", "gut", "io", "pass", "passed"})


def folder_meaning(name: str) -> Meaning | None:
    """Say what a folder's name means, with words and numbers beside it that say which images: good_day2, OK images."""
    if found := meaning(name):
        return found
    texts = [" ".join(word for word in words if word not in WHICH) for words in _readings(name)]
    if "def" in texts:
        return "anomalous"
    return next((found for text in texts if text not in POSITIONS and (found := meaning(text))), None)


def is_good(name: str) -> bool:
    """Say whether a folder's name means good images."""
    return folder_meaning(name) == "good"


def is_bad(name: str) -> bool:
    """Say whether a folder's name means bad images, of whatever kind."""
    return folder_meaning(name) == "anomalous"


def like_defects(name: str) -> bool:
    """Say whether a folder's name speaks of defects, such as bad_parts or Scratch2; "defect free" does not."""
    for words in _readings(name):
        text = f" {' '.join(words)} "
        rest = re.sub(r" (no|non|without|zero) \w+ | \w+ free | free of \w+ ", " ", text).split()
        if any(f" {phrase} " in text for phrase in DEFECT_PHRASES) or not DEFECT_WORDS.isdisjoint(rest):
            return True
    return False


def like_good(name: str) -> bool:
    """Say whether a folder's name begins with a word for good images, whatever follows: good_x, ok_front."""
    return any(words[:1] and words[0] in PLAINLY_GOOD for words in _readings(name)) and not like_defects(name)


def undecided(names: Sequence[str]) -> tuple[str, str] | None:
    """Find two folders beside each other of which one may be good and the other defective, by their names.

    Good ones are named by a word (ok_front beside other), or by a number (0 beside 1, class_0 beside class_1). Folders
    that are named like defects or like masks do not count.
    """
    open_names = [name for name in names if not like_defects(name) and not is_mask_folder(name)]
    good = [name for name in open_names if is_good(name) or like_good(name)]
    others = [name for name in open_names if name not in good]
    if good and others:
        return good[0], others[0]
    classes = [name for name in names if re.fullmatch(r"(class|klasse|cls|label|category)? ?0*[01]", plain(name))]
    return (classes[0], classes[1]) if len(classes) > 1 and {name[-1] for name in classes} == {"0", "1"} else None


def _readings(name: str) -> tuple[list[str], list[str]]:
    """Split a name into words without numbers: at spaces alone (niO Teile), and before capital letters (NotOK) too."""
    spaced = re.sub(r"\d+", " ", unicodedata.normalize("NFC", name))
    return plain(spaced).split(), plain(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", spaced)).split()
