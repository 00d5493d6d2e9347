"""Labels in words: what each means by itself, and what it means beside the others of its table."""

import pytest

from unmask.datasets.labels import kind_of, meaning, meanings, told
from unmask.errors import DatasetError


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        *((word, "good") for word in ("good", " Good ", "OK", "normal", "pass", "i.O.", "defect-free", "no_defect")),
        *((word, "good") for word in ("Not Defective", "conforme", "ACCEPT", "in Ordnung", "O.K.")),
        *((word, "anomalous") for word in ("bad", "NG", "n.i.O.", "Defective", "FAIL", "not ok", "abnormal", "reject")),
        *((word, "anomalous") for word in ("non conforme", "no_good", "Anomaly", "NOK", "ko")),
        *((word, None) for word in ("scratch", "0", "1", "true", "x", "", "goodish", "broken_large")),
    ],
)
def test_a_word_by_itself(word, wanted):
    assert meaning(word) == wanted


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        *(("good", bad) for bad in ("bad", "abnormal", "anomalous", "defective")),
        *(("pass", "fail"), ("PASS ", "Fail"), ("ok", "ng"), ("accept", "reject"), ("i.O.", "n.i.O."), ("io", "nio")),
        *(("False", "True"), ("no", "Yes"), ("n", "y"), ("f", "t"), ("p", "f"), ("P", "F"), ("o", "x"), ("G", "B")),
        *(("0", "1"), ("0.0", "1.0"), ("0,0", "1,0"), (" 0", "1 "), ("negative", "positive")),
    ],
)
def test_pairs_in_a_table(good, bad):
    assert meanings([good, bad, good], "table.csv") == {good: "good", bad: "anomalous"}


def test_a_column_that_asks_whether_a_part_is_good():
    for good, bad in (("True", "False"), ("1", "0"), ("yes", "no"), ("y", "n")):
        assert meanings([good, bad], "table.csv", true_is_good=True) == {good: "good", bad: "anomalous"}


def test_kinds_of_defect_are_told():
    labels = ["good"] * 3 + ["scratch"] * 4 + ["dent", "2"]
    found = meanings(labels, "table.csv")
    assert [found[label] for label in ("good", "scratch", "dent", "2")] == ["good", None, None, None]
    assert told(labels, found) == ("labels taken as kinds of defect: scratch (4), dent (1), 2 (1)",)
    labels = ["good", "False", "True", "True"]
    assert told(labels, meanings(labels, "")) == ("labels taken: False (1) as good, True (2) as defective",)
    assert told(["good", "bad"], meanings(["good", "bad"], "")) == ()
    many = [f"kind of defect number {number} with a long name" for number in range(100)]
    assert len(told(many, meanings(many, ""))[0]) < 300


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (("pass", "False"), "'pass' and 'False' contradict each other"),
        (("ok", "true", "false"), "contradict"),
        (("good", "f"), "'f' has no clear meaning"),
        (("p", "n"), "'p' has no clear meaning"),
        (("1", "-1"), "'-1' is no class"),
        (("0", "0.5"), "'0.5' is no class"),
        (("good", "nan"), "'nan' is no class"),
        (("good", "1e999"), "is no class"),
    ],
)
def test_labels_without_one_meaning_are_refused(labels, reason):
    with pytest.raises(DatasetError, match=f"table.csv: .*{reason}") as caught:
        meanings(labels, "table.csv")
    assert len(str(caught.value)) < 300


def test_names_of_kinds():
    assert [kind_of(label) for label in ("True", "1.0", "yes", "x", "scratch", "fail", "2")] == [
        *("anomaly", "anomaly", "anomaly", "anomaly", "scratch", "fail", "2"),
    ]
