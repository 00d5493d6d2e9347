"""Labels in words: which mean a good part, which a defect, and which name a kind of defect."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

from unmask.datasets.wording import listed, shortened
from unmask.errors import DatasetError

Meaning = Literal["good", "anomalous"]

# As `plain` writes them: lower case, no dots, one space for any run of spaces, hyphens and underscores.
GOOD_WORDS = frozenset(
    (
        *("good", "normal", "nominal", "fine", "healthy", "clean", "intact", "perfect", "undamaged", "flawless"),
        *("inlier", "negative", "neg", "gut", "gutteil", "gutteile", "fehlerfrei", "bon", "bonne", "bueno", "buono"),
        *("正常", "良品", "合格"),
        *("defect free", "no defect", "no defects", "without defect", "non defective", "not defective"),
        *("no anomaly", "no anomalies", "non anomaly", "non anomalous", "not anomalous"),
        *("non defect", "without defects", "without anomaly", "without anomalies"),
        *("no crack", "no cracks", "crack free", "uncracked", "non cracked", "no scratch", "no scratches"),
    )
)
BAD_WORDS = frozenset(
    (
        *("bad", "not good", "no good", "abnormal", "anomaly", "anomalies", "anomalous", "defect", "defects"),
        *("defective", "defected", "faulty", "damaged", "outlier", "positive", "pos", "schlecht", "schlechtteil"),
        *("schlechtteile", "ausschuss", "fehlerhaft"),
        *("malo", "mauvais", "异常", "不良", "不良品", "不合格"),
    )
)
PASSED_WORDS = frozenset(
    (
        *("ok", "okay", "pass", "passed", "accept", "accepted", "conform", "conforme", "conforming", "io"),
        *("in ordnung", "acceptable"),
    )
)
FAILED_WORDS = frozenset(
    (
        *("ng", "nok", "ko", "not ok", "not okay", "fail", "failed", "failure", "reject", "rejected", "nio"),
        *("nicht in ordnung", "non conform", "non conforme", "nonconforming", "non conforming"),
        *("unacceptable", "not acceptable"),
    )
)
TRUTHS: Mapping[str, bool] = {"false": False, "no": False, "true": True, "yes": True}
LETTERS: tuple[tuple[str, str], ...] = (("p", "f"), ("o", "x"), ("g", "b"), ("g", "ng"))  # good, then anomalous
TRUTH_LETTERS = (("f", "t"), ("n", "y"))  # false, then true


def meaning(word: str) -> Meaning | None:
    """Say what a word by itself means, such as the name of a folder; None for one that names a kind of defect.

    Case, dots and surrounding spaces do not count, and hyphens and underscores are spaces: "n.i.O." is "nio".
    """
    bare = plain(word)
    if bare in GOOD_WORDS or bare in PASSED_WORDS:
        return "good"
    return "anomalous" if bare in BAD_WORDS or bare in FAILED_WORDS else None


def meanings(labels: Iterable[str], where: str, *, true_is_good: bool = False) -> dict[str, Meaning | None]:
    """Say what each label of a table means; None for one that names a kind of defect.

    Beside the words of `meaning`, a table may hold numbers (0 is good, 1 and above are defects), true and false, yes
    and no (true is a defect), and pairs of single letters (p and f, t and f, y and n, o and x, g and b).

    Args:
        labels: as they are written, repeated or not.
        where: they come from, for messages.
        true_is_good: the column asks whether a part is good (its name is such as "is_good"), not whether it is bad.

    Raises:
        DatasetError: a label has two meanings here, or is a number that is no class.
    """
    words = {label: plain(label) for label in dict.fromkeys(labels)}
    given = set(words.values())
    truths = dict(TRUTHS)
    for false, true in TRUTH_LETTERS:
        if {false, true} <= given:
            truths |= {false: False, true: True}
    pairs = [pair for pair in LETTERS if set(pair) <= given and not set(pair) & truths.keys()]
    letters: dict[str, Meaning] = {}
    for good, bad in pairs:
        letters |= {good: "good", bad: "anomalous"}
    _check_one_scale(words, truths, where)
    found: dict[str, Meaning | None] = {}
    for label, word in words.items():
        number = _number(label)
        if word in truths:
            found[label] = "good" if truths[word] == true_is_good else "anomalous"
        elif number is not None:
            found[label] = _of_number(number, label, where, true_is_good=true_is_good)
        else:
            found[label] = letters.get(word) or meaning(label)
            if found[label] is None and len(word) == 1 and word.isascii() and word.isalpha():
                raise DatasetError(f"{where}: the label {label!r} has no clear meaning; write good or bad instead")
    return found


def told(labels: Iterable[str], found: Mapping[str, Meaning | None]) -> tuple[str, ...]:
    """Write in one line each how labels were taken that are neither plainly good nor plainly bad.

    Args:
        labels: one for each image, as written.
        found: what `meanings` gave for them.
    """
    counts = Counter(labels)
    kinds = [f"{shortened(label)} ({count})" for label, count in counts.items() if found[label] is None]
    lines = [f"labels taken as kinds of defect: {listed(kinds, 200)}"] if kinds else []
    numbers_and_truths = [
        f"{shortened(label)} ({count}) as {'good' if found[label] == 'good' else 'defective'}"
        for label, count in counts.items()
        if found[label] is not None and meaning(label) is None
    ]
    if numbers_and_truths:
        lines.append(f"labels taken: {listed(numbers_and_truths, 200)}")
    return tuple(lines)


def kind_of(label: str) -> str:
    """Name the class of a defective image: its label, or "anomaly" where that only says that there is one."""
    word = plain(label)
    letters = {letter for pair in (*LETTERS, *TRUTH_LETTERS) for letter in pair if len(letter) == 1}
    return "anomaly" if word in TRUTHS or word in letters or _number(label) == 1 else label


def plain(word: str) -> str:
    """Write a word without case, dots and outer spaces, and with single spaces for hyphens and underscores."""
    folded = unicodedata.normalize("NFKC", word).casefold().replace(".", "")
    return re.sub(r"[\s_-]+", " ", folded).strip()


def _check_one_scale(words: Mapping[str, str], truths: Mapping[str, bool], where: str) -> None:
    """Refuse truths beside verdicts: "false" beside "pass" is either the opposite of it or the same."""
    truth = next((label for label, word in words.items() if word in truths), None)
    verdict = next((label for label, word in words.items() if word in PASSED_WORDS | FAILED_WORDS), None)
    if truth is not None and verdict is not None:
        raise DatasetError(
            f"{where}: the labels {shortened(verdict)!r} and {shortened(truth)!r} contradict each other "
            "(is false a defect, or is it none?); write good and bad"
        )


def _number(label: str) -> float | None:
    try:
        return float(label.strip().replace(",", "."))
    except ValueError:
        return None


def _of_number(number: float, label: str, where: str, *, true_is_good: bool) -> Meaning | None:
    if not math.isfinite(number) or number < 0 or number != int(number) or (true_is_good and number > 1):
        raise DatasetError(f"{where}: the label {shortened(label)!r} is no class; write 0 for good and 1 for a defect")
    if number > 1:
        return None
    return "good" if bool(number) == true_is_good else "anomalous"
