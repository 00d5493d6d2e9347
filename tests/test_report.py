"""The report folder: what it holds, what it escapes, what it refuses to overwrite, and how much it keeps in memory."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from unmask.errors import UnmaskError
from unmask.inspection.calibration import Calibration, regions
from unmask.report.charts import BARS, Chart, nice_ticks, stacked_bars
from unmask.report.page import Summary, write_report
from unmask.types import AnomalyResult, Frame

CALIBRATION = Calibration(threshold=1.0, pixel_threshold=1.0, false_alarm_rate=0.05, n_held_out=19, map_low=0.2)


def inspected(score, path=None, restored=None, size=(20, 30)):
    anomaly_map = np.full(size, 0.2, np.float32)
    anomaly_map[5:9, 10:16] = score
    mask, found = regions(anomaly_map, 1.0)
    return AnomalyResult(score, 1.0, score > 1.0, anomaly_map, 1.0, mask, found, restored, {"total": 12.5}, path)


def photographs(folder, names):
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20), "grey").save(path)
    return paths


def written(folder, results, *, photo=None, **known):
    more = {} if photo is None else {"photo": photo}
    if known:
        more["summary"] = lambda: Summary(**known)
    page = write_report(folder, results, title="Bottles", calibration=CALIBRATION, model={"detector": "fre"}, **more)
    return page.read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Every element with its attributes, and whether all are closed in order."""

    VOID = frozenset({"meta", "img", "input", "link", "br"})

    def __init__(self, page):
        super().__init__()
        self.found, self.open = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag, name=None):
        return [
            attrs for found, attrs in self.found if found == tag and (name is None or name in attrs.get("class", ""))
        ]


def test_the_page_shows_the_worst_image_first_and_says_how_many(tmp_path):
    paths = photographs(tmp_path, ["a/000.png", "b/000.png", "b/001.png"])
    page = written(tmp_path / "report", map(inspected, [0.5, 3.0, 2.0], paths))
    elements = Elements(page)
    assert elements.open == []
    assert [card["data-name"] for card in elements.all("li", "card")] == ["b/000.png", "b/001.png", "a/000.png"]
    assert [card["data-verdict"] for card in elements.all("li", "card")] == ["anomalous", "anomalous", "good"]
    assert re.search(r"<b>2</b> of 3 images are anomalous", page)
    assert f"<p>{CALIBRATION.promise}</p>" in page


def test_the_page_needs_no_network_and_loads_nothing(tmp_path):
    page = written(tmp_path / "report", [inspected(2.0)])
    elements = Elements(page)
    assert not re.search(r"https?://", page)
    assert not elements.all("link")
    assert all("src" not in attrs for attrs in elements.all("script"))
    assert all(attrs["src"].startswith("data:image/webp;base64,") for attrs in elements.all("img"))
    assert "default-src 'none'" in page


def test_names_and_facts_are_escaped(tmp_path):
    evil = "<script>alert(1)</script>\"'&.png"
    result = replace(inspected(2.0), path=Path(evil))
    page = written(tmp_path / "report", [result], groups=["<b>group"], metrics={"<i>m": "<u>"}, photo=lambda _: None)
    for raw in ("<script>alert", "<b>group", "<i>m", "<u>"):
        assert raw not in page
    assert len(Elements(page).all("script")) == 1


def test_tables_hold_the_numbers_in_the_order_of_the_results(tmp_path):
    paths = photographs(tmp_path, ["a.png", "b.png"])
    written(tmp_path / "report", map(inspected, [0.5, 3.0], paths), groups=["ok", "bent"], metrics={"AUROC": 0.9})
    record = json.loads((tmp_path / "report" / "results.json").read_text())
    assert record["calibration"] == {**CALIBRATION.to_dict(), "promise": CALIBRATION.promise}
    assert record["metrics"] == {"AUROC": 0.9}
    table = parquet.read_table(tmp_path / "report" / "results.parquet").to_pylist()
    assert table == record["results"]
    assert [row["path"] for row in table] == [str(path) for path in paths]
    assert table[0]["largest_box"] is None
    bent = table[1]
    assert (bent["group"], bent["score"], bent["is_anomalous"], bent["n_regions"]) == ("bent", 3.0, True, 1)
    assert (bent["largest_box"], bent["largest_area"], bent["milliseconds"]) == ([10, 5, 16, 9], 24, 12.5)


def picture(page, caption):
    import base64
    import io

    images = [attrs for attrs in Elements(page).all("img") if attrs["alt"] == caption]
    content = base64.b64decode(images[0]["src"].split(",")[1])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def test_the_heat_map_keeps_one_scale_for_all_images(tmp_path):
    """A weak map stays dark although it is its image's strongest: colours come from the calibration."""
    weak, strong = (
        picture(written(tmp_path / name, [inspected(score)]), "Heat map")
        for name, score in (("weak", 0.6), ("strong", 1.8))
    )
    assert strong[7, 13].sum() > 2 * weak[7, 13].sum()
    assert abs(strong[1, 1] - weak[1, 1]).max() < 12


def test_a_restored_image_is_shown_as_repaired(tmp_path):
    restored = np.full((20, 30, 3), (0, 160, 0), np.uint8)
    page = written(tmp_path / "report", [inspected(2.0, restored=restored)])
    assert abs(picture(page, "Repaired")[10, 15] - (0, 160, 0)).max() < 12
    assert "Outline" not in {attrs["alt"] for attrs in Elements(page).all("img")}  # there is no photograph to outline


def test_the_smallest_spot_of_a_large_image_keeps_its_outline(tmp_path):
    result = inspected(0.5, size=(1500, 2000))
    result.mask[701, 901] = True
    outlined = picture(
        written(tmp_path / "report", [result], photo=lambda _: np.full((3, 1500, 2000), 1, np.float32)), "Outline"
    )
    assert outlined.shape == (192, 256, 3)
    assert outlined[85:95, 110:120].min() < 120 < 230 < outlined[:70].min()


def test_measures_and_curves_appear_only_when_given(tmp_path):
    plain = written(tmp_path / "plain", [inspected(2.0)])
    assert "How well it did" not in plain
    chart = Chart("ROC", "false alarms", "found", [0, 0, 1], [0, 0.5, 1])
    full = written(tmp_path / "full", [inspected(2.0)], metrics={"AUROC": 0.98765, "AUPRO": None}, curves=[chart])
    assert "0.9877" in full
    assert "not measured" in full
    assert 'points="0,1000 0,500 1000,0 1000,0"' in full


def test_results_are_reduced_one_by_one(tmp_path):
    """No result outlives the next but one: a thousand full maps never meet in memory."""
    import gc
    import weakref

    alive = []

    def stream():
        for _ in range(10):
            result = inspected(2.0)
            alive.append(weakref.ref(result))
            yield result
            del result
            gc.collect()
            assert sum(one() is not None for one in alive) <= 2

    written(tmp_path / "report", stream())


def test_a_report_of_ours_is_replaced_whole(tmp_path):
    written(tmp_path / "report", [inspected(2.0)] * 3)
    page = written(tmp_path / "report", [inspected(2.0)])
    assert "of 1 image is anomalous" in page
    assert {path.name for path in tmp_path.iterdir()} == {"report"}
    (tmp_path / "empty").mkdir()
    written(tmp_path / "empty", [inspected(2.0)])


def test_anything_else_is_never_overwritten(tmp_path):
    for name, content in (("notes.txt", "mine"), ("results.json", '{"format": "other"}')):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text(content)
        with pytest.raises(UnmaskError, match="is not a report of unmask"):
            written(folder, [inspected(2.0)])
        assert (folder / name).read_text() == content
    written(tmp_path / "report", [inspected(2.0)])
    (tmp_path / "report" / "notes.txt").write_text("added by hand")
    with pytest.raises(UnmaskError, match="give another folder"):
        written(tmp_path / "report", [inspected(2.0)])


def test_a_failure_leaves_the_old_report_and_no_litter(tmp_path):
    first = written(tmp_path / "report", [inspected(2.0)])

    def failing():
        yield inspected(1.0)
        raise RuntimeError("camera unplugged")

    with pytest.raises(RuntimeError, match="camera"):
        written(tmp_path / "report", failing())
    with pytest.raises(ValueError, match="could not convert"):
        written(tmp_path / "report", [inspected(2.0)], curves=[Chart("ROC", "x", "y", ["?"], ["?"])])
    assert (tmp_path / "report" / "index.html").read_text() == first
    assert {path.name for path in tmp_path.iterdir()} == {"report"}


def test_what_cannot_be_reported_says_so(tmp_path):
    with pytest.raises(UnmaskError, match="at least one image"):
        written(tmp_path / "report", [])
    with pytest.raises(UnmaskError, match="1 results came with 2 groups"):
        written(tmp_path / "report", [inspected(2.0)], groups=["a", "b"])
    with pytest.raises(UnmaskError, match="the score of 0 is nan"):
        written(tmp_path / "report", [replace(inspected(2.0), score=float("nan"))])


# --- explanations ----------------------------------------------------------------------------------------------------

COLOURS = {"hidden": (160, 0, 0), "restored": (0, 160, 0), "covered": (0, 0, 160), "error": (160, 160, 0)}


def explained(result, n):
    """With n steps of four plain pictures each."""
    shown = {caption: np.full((20, 30, 3), colour, np.uint8) for caption, colour in COLOURS.items()}
    return replace(result, explanation=tuple(Frame(f"pass {k + 1} of {n}", shown) for k in range(n)))


def animation(path):
    """Its frames as arrays, and for how long each is shown."""
    frames, times = [], []
    with Image.open(path) as opened:
        for k in range(opened.n_frames):
            opened.seek(k)
            frames.append(np.asarray(opened.convert("RGB")).astype(int))
            times.append(opened.info.get("duration"))
    return frames, times


def test_the_page_shows_every_step_in_order(tmp_path):
    page = written(tmp_path / "report", [explained(inspected(2.0), 2), inspected(3.0)])
    elements = Elements(page)
    assert elements.open == []
    assert len(elements.all("template")) == 1, "only what was explained"
    assert re.findall(r"<h3>(.*?)</h3>", page) == ["pass 1 of 2", "pass 2 of 2"]
    assert re.findall(r"<figcaption>(\w+)</figcaption>", page) == 2 * list(COLOURS)
    assert all(attrs["src"].startswith("data:image/webp;base64,") for attrs in elements.all("img"))
    for caption, colour in COLOURS.items():
        assert abs(picture(page, f"pass 2 of 2: {caption}")[10, 15] - colour).max() < 12


def test_large_frames_are_reduced_in_the_page(tmp_path):
    frame = Frame("repair", {"error": np.full((400, 512, 3), 90, np.uint8)})
    page = written(tmp_path / "report", [replace(inspected(2.0), explanation=(frame,))])
    assert picture(page, "repair: error").shape == (150, 192, 3)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_an_animation_has_a_strip_a_step_and_waits_at_the_end(tmp_path, n):
    page = written(tmp_path / "report", [explained(inspected(2.0, *photographs(tmp_path, ["part.png"])), n)])
    (link,) = Elements(page).all("a")
    assert link["href"] == "explain/0001-part.webp"
    frames, times = animation(tmp_path / "report" / link["href"])
    assert len(frames) == n
    assert n == 1 or times == [1000] * (n - 1) + [2500]
    for frame in frames:
        width = frame.shape[1] // 4
        middles = [frame[frame.shape[0] // 2, width * k + width // 2] for k in range(4)]
        assert np.abs(np.array(middles) - list(COLOURS.values())).max() < 12, "side by side, in their order"
        assert frame[:30].max() > 150, "the title is drawn"
        assert frame[-20:].max() > 100, "so are the captions"
    assert all(np.abs(a - b).max() > 50 for a, b in pairwise(frames)), "titles differ"


def test_steps_of_different_shapes_make_one_animation(tmp_path):
    shapes = [[(20, 30)], [(512, 7), (7, 512)], []]
    steps = tuple(
        Frame(f"step {i}", {f"map {k}": np.full((*shape, 3), 99, np.uint8) for k, shape in enumerate(some)})
        for i, some in enumerate(shapes)
    )
    written(tmp_path / "report", [replace(inspected(2.0), explanation=steps)])
    frames, _ = animation(tmp_path / "report" / "explain" / "0001-image.webp")
    assert len({frame.shape for frame in frames}) == 1
    assert len(frames) == 3


def test_any_name_makes_an_animation_that_its_link_finds(tmp_path):
    from urllib.parse import unquote

    names = ["a/x.png", "b/x.png", '50% "of" <b>#1?.png', "ä" * 100 + ".png"]
    photographs(tmp_path, names)
    results = [explained(inspected(2.0, tmp_path / name), 1) for name in names]
    page = written(tmp_path / "report", results)
    links = [unquote(attrs["href"]) for attrs in Elements(page).all("a")]
    assert sorted(links) == sorted(f"explain/{one.name}" for one in (tmp_path / "report" / "explain").iterdir())
    assert len(links) == len(names)


def test_an_explained_report_is_replaced_whole(tmp_path):
    report = tmp_path / "report"
    written(report, [explained(inspected(2.0), 2)] * 3)
    written(report, [explained(inspected(2.0), 2)])
    assert [path.name for path in (report / "explain").iterdir()] == ["0001-image.webp"]
    written(report, [inspected(2.0)])
    assert not (report / "explain").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"report"}


@pytest.mark.parametrize("foreign", ["notes.txt", "folder.webp/mine"])
def test_a_foreign_file_among_the_animations_is_kept(tmp_path, foreign):
    written(tmp_path / "report", [explained(inspected(2.0), 2)])
    file = tmp_path / "report" / "explain" / foreign
    file.parent.mkdir(exist_ok=True)
    file.write_text("added by hand")
    with pytest.raises(UnmaskError, match="is not a report of unmask"):
        written(tmp_path / "report", [inspected(2.0)])
    assert file.read_text() == "added by hand"


def test_a_file_called_explain_is_kept(tmp_path):
    written(tmp_path / "report", [inspected(2.0)])
    (tmp_path / "report" / "explain").write_text("mine")
    with pytest.raises(UnmaskError, match="is not a report of unmask"):
        written(tmp_path / "report", [inspected(2.0)])


def test_a_failure_after_some_animations_leaves_nothing(tmp_path):
    def failing():
        yield explained(inspected(1.0), 2)
        raise RuntimeError("camera unplugged")

    with pytest.raises(RuntimeError, match="camera"):
        written(tmp_path / "new" / "deep" / "report", failing())
    assert list(tmp_path.iterdir()) == []
    written(tmp_path / "new" / "deep" / "report", [explained(inspected(1.0), 2)])
    assert {path.name for path in (tmp_path / "new" / "deep").iterdir()} == {"report"}
    assert {path.name for path in tmp_path.iterdir()} == {"new"}


@pytest.mark.parametrize("seed", range(5))
def test_bars_count_each_score_on_its_side_of_the_threshold(seed):
    generator = np.random.default_rng(seed)
    scores = np.append(generator.normal(0, 10.0**seed, 200), 0.5)
    names = np.where(scores > 0.5, "high", "low").tolist()
    bars = stacked_bars(scores, names, 0.5)
    counted = {
        name: sum(int(bar.text.split()[-1]) for bar in bars.bars if bars.names[bar.series] == name)
        for name in bars.names
    }
    assert counted == {"low": names.count("low"), "high": names.count("high")}
    for bar in bars.bars:
        assert (bar.x + 1e-9 >= bars.threshold) == (bars.names[bar.series] == "high")
    assert min(bar.y for bar in bars.bars) == pytest.approx(0)
    assert len({bar.x for bar in bars.bars}) <= BARS + 2


def test_bars_of_equal_scores_are_one_bar():
    bars = stacked_bars(np.full(7, 3.0), ["good"] * 7, 3.0)
    assert [bar.text for bar in bars.bars] == ["good: 7"]
    assert bars.bars[0].x + bars.bars[0].width == pytest.approx(bars.threshold)


def test_ticks_are_round_and_inside():
    assert nice_ticks(0.13, 0.94) == [0.2, 0.4, 0.6, 0.8]
    assert nice_ticks(-3.0, 12.0) == [0, 5, 10]
    assert nice_ticks(1e6, 1e6 + 5) == [1e6, 1e6 + 1, 1e6 + 2, 1e6 + 3, 1e6 + 4, 1e6 + 5]


def test_a_curve_is_cut_at_the_end_of_its_axis():
    assert Chart("PRO", "x", "y", [0, 0.2, 0.4], [0, 0.5, 1], x_max=0.3).points() == "0,1000 666.7,500 1000,250"
