"""Write the parts of the documentation that repeat the code or the results; `make docs` runs it, a test compares."""

from __future__ import annotations

import inspect
import json
import re
import runpy
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
NO_FIGURES = "no figures yet"
BENCHES = (RESULTS / "six_sets", RESULTS / "tolerance")
"""Runs of `unmask bench` on the six sets, the older one first."""

COLUMNS = {
    "pixel_auroc": ("pixel AUROC", 100),
    "aupro": ("AUPRO", 100),
    "recall": ("recall", 100),
    "false_alarm_rate": ("false alarms", 100),
    "promised_false_alarm_rate": ("promised at most", 100),
}
"""What the table shows of a method behind its image AUROC: title and factor."""

IN_A_SENTENCE = {
    "fuse": "several of the others on one network; `patchcore+fre` unless others are named; the default",
    "patchcore": "keeps a bank of normal patches, and measures the distance of each new patch to the nearest",
    "fre": "projects whole images on to the principal subspace of normal ones, and measures what is lost",
    "protoad": "compares patches with a few thousand prototypes, by one convolution",
    "isstad": "repairs the image and classifies each pixel as damaged or not",
    "ssm": "hides every part in turn, restores it, and progressively uncovers what came back well",
}
"""Each detector's own description in the table of the family."""

KINDS = {
    "blur": "out of focus: standard deviation of a Gaussian, of the shorter side",
    "jpeg": "stored as JPEG: the lowest quality",
    "noise": "noise of the sensor: standard deviation, of the range",
    "motion": "moved during exposure, in any direction: length, of the shorter side",
    "light": "brighter or darker, as a whole or from one side to the other",
    "color": "another white balance: each channel by itself",
    "shift": "the part aside: of the sides, both ways",
    "turn": "the part turned: degrees, both ways",
    "zoom": "nearer or farther",
}
"""What each kind of disturbance does, for the table of kinds."""

COSTS = {
    "fit_seconds": ("fit, s", 1),
    "ms_p50": ("ms an image", 1),
    "ms_p95": ("95th percentile", 1),
    "ms_per_image": ("in batches of 8", 1),
    "peak_mb": ("memory, MB", 1),
    "model_mb": ("model, MB", 1),
    "image_auroc": ("image AUROC", 100),
    "pixel_auroc": ("pixel AUROC", 100),
}
"""Likewise of the table of costs."""


def latest(*results: Path) -> list[dict[str, Any]]:
    """The rows of runs of `unmask bench`; of a method that several of them measured, those of the last."""
    from unmask.benchmark.results import JSON, by_method, rows_of

    found: dict[str, list[dict[str, Any]]] = {}
    for folder in results:
        if (folder / JSON).exists():
            found |= by_method(rows_of(folder))
    return [row for rows in found.values() for row in rows]


def benchmark_table(*results: Path) -> str:
    """The rows of runs of `unmask bench`: a line a method, means over data sets, and image AUROC of each of them."""
    from unmask.benchmark.summary import figure, ranked

    rows = latest(*(results or BENCHES))
    if not rows:
        return NO_FIGURES
    datasets = sorted({row["dataset"] for row in rows})
    lines = []
    for method, some in ranked(rows):
        each = [[row for row in some if row["dataset"] == dataset] for dataset in datasets]
        aurocs = [figure(one, "image_auroc", 100) for one in each]
        more = [figure(some, key, factor) for key, (_, factor) in COLUMNS.items()]
        lines.append([method, f"**{figure(some, 'image_auroc', 100)}**", *aurocs, *more])
    head = ["method", "image AUROC", *datasets, *(title for title, _ in COLUMNS.values())]
    return "\n".join([_table(head, lines), "", *(f"- {line}" for line in _provenance(rows))])


def robustness_table(results: Path = RESULTS / "tolerance") -> str:
    """A line a disturbance, taught ones first, and a column a method: image AUROC, false-alarm rate and recall."""
    from unmask.benchmark.results import JSON, rows_of
    from unmask.benchmark.summary import ranked

    if not (results / JSON).exists():
        return NO_FIGURES
    figures = {"image_auroc": ".1f", "false_alarm_rate": ".1f", "recall": ".1f"}
    return _disturbances(dict(ranked(rows_of(results))), figures)


def _disturbances(columns: Mapping[str, Sequence[Mapping[str, Any]]], figures: Mapping[str, str]) -> str:
    """A line a disturbance, and the mean of each group, where all of its kinds were measured.

    Args:
        columns: title -> rows.
        figures: name -> format of those that a cell shows, in %.
    """
    from unmask.benchmark.robustness import GROUPS, NONE

    lines = [["none", *(_under(rows, [NONE], figures) for rows in columns.values())]]
    for group, kinds in list(GROUPS.items())[1:]:
        lines += [[f"{group}: {kind}", *(_under(rows, [kind], figures) for rows in columns.values())] for kind in kinds]
        lines.append([f"**{group}: mean**", *(_under(rows, kinds, figures) for rows in columns.values())])
    return _table(["disturbance", *columns], lines)


def _under(rows: Sequence[Mapping[str, Any]], kinds: Sequence[str], figures: Mapping[str, str]) -> str:
    """Means of some figures under some kinds of disturbance."""
    from unmask.benchmark.robustness import mean_under

    means = [mean_under(rows, kinds, name) for name in figures]
    shown = [f"{100 * one:{form}}" for one, form in zip(means, figures.values(), strict=True) if one is not None]
    return " / ".join(shown) if len(shown) == len(means) else "-"


def false_alarms_table(results: Path = RESULTS / "tolerance", method: str = "fuse fast") -> str:
    """False alarms and recall of the default in %: a line a disturbance, a column a data set."""
    from unmask.benchmark.results import JSON, by_method, rows_of

    if not (results / JSON).exists():
        return NO_FIGURES
    rows = by_method(rows_of(results))[method]
    by_dataset = {
        name: [row for row in rows if row["dataset"] == name] for name in sorted({r["dataset"] for r in rows})
    }
    return _disturbances(by_dataset, {"false_alarm_rate": ".0f", "recall": ".0f"})


def kept_rate_table(results: Path = RESULTS / "kept_rate.json") -> str:
    """Kept and promised false-alarm rates in % with few good images: a line a way to calibrate and a number of them."""
    if not results.exists():
        return NO_FIGURES
    found = json.loads(results.read_text(encoding="utf-8"))
    rows = found["rows"]
    datasets = sorted({row["dataset"] for row in rows})
    by_line = defaultdict(dict)
    for row in rows:
        by_line[row["calibration"], row["n"]][row["dataset"]] = row
    lines = []
    for (way, n), mine in sorted(by_line.items()):
        kept = [f"{100 * statistics.mean(mine[name]['kept']):.1f}" if name in mine else "-" for name in datasets]
        promised = statistics.mean(row["promised"] for row in mine.values())
        ratios = [_ratio(list(mine.values()), key) for key in ("kept", "kept_rest")]
        lines.append([way, n, f"{100 * promised:.1f}", *kept, f"**{ratios[0]}**", ratios[1]])
    head = ["calibrated", "good images in all", "promised", *datasets, "kept / promised", "the same of alike images"]
    draws = " or ".join(map(str, sorted({len(row["kept"]) for row in rows})))
    made = f"`{found['command']}` at commit {rows[0]['commit']} on {rows[0]['processor']}, {rows[0]['date']}"
    return "\n".join([_table(head, lines), "", f"- {made}: {draws} draws of good images a line and data set."])


def _ratio(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    """Kept rate over promised rate: the mean over data sets of the mean over draws, and the deviation of one draw."""
    each = [[one / row["promised"] for one in row[key]] for row in rows if row[key]]
    if not each:
        return "-"
    spread = f" ± {statistics.mean(map(statistics.pstdev, each)):.2f}" if min(map(len, each)) > 1 else ""
    return f"{statistics.mean(map(statistics.mean, each)):.2f}{spread}"


def fragility_sentence(results: Path = RESULTS / "tolerance") -> str:
    """What the default's verdicts are worth when the pictures change, in a few sentences of the README."""
    from unmask.benchmark.results import JSON, by_method, rows_of
    from unmask.benchmark.robustness import GROUPS, mean_under

    if not (results / JSON).exists():
        return NO_FIGURES
    rows = by_method(rows_of(results))
    (taught, known), (untaught, unknown) = list(GROUPS.items())[1:]

    def alarms(method: str, kinds: Sequence[str]) -> str:
        return f"{100 * (mean_under(rows[method], kinds, 'false_alarm_rate') or 0.0):.0f} %"

    mild, none = "fuse fast", "fuse fast tolerate=none"
    groups = (["none"], known, unknown)
    today, before = ([alarms(method, kinds) for kinds in groups] for method in (mild, none))
    return (
        f"- **How easily it breaks is measured.** The default flags {today[0]} of good images as they are "
        f"(mean of six sets),\n  {today[1]} under the {len(known)} {taught} disturbances, "
        f"and {today[2]} under the {len(unknown)} that are {untaught}.\n"
        f"  With `--tolerate none` it is {before[0]}, {before[1]} and {before[2]}. "
        "[Robustness](docs/evaluation.md#robustness) has the table."
    )


def runtime_sentence(results: Path = RESULTS / "runtime.json", memory: Path = RESULTS / "memory.json") -> str:
    """What the exported default costs, and what a fit may take of memory, in a few sentences of the README."""
    found = json.loads(results.read_text(encoding="utf-8"))
    runs = json.loads(memory.read_text(encoding="utf-8"))["runs"]
    many = max((run for run in runs if run["command"] == "fit"), key=lambda run: run["n"])
    where = f"{found['cores']} cores of {found['processor']}, commit {found['commit']}, {found['date']}"
    own = f"{many['own_peak_mb']} MB of its own memory"
    return (
        f"Without torch, the exported default judges one image of 256 pixels in {found['alone_ms']:.0f} ms "
        f"({found['batch_8_ms']:.0f} ms in batches of 8),\n{found['first_verdict_s']:.1f} s after the command was "
        f"typed; `unmask fit` takes {found['fit_command_s']:.0f} s, torch's start included\n({where}).\n"
        f"With `--max-memory 1GB`, {many['n']:,} small images were learned in {own}."
    )


def threshold_table() -> str:
    """How many images a promised false-alarm rate needs."""
    from unmask.inspection.guarantee import images_needed

    lines = [[f"{rate:g}", images_needed(rate), f"about {5 * images_needed(rate)}"] for rate in (0.1, 0.05, 0.02, 0.01)]
    return _table(["wanted rate", "held-out images", "good images in all, if a fifth is held out"], lines)


def interval_table() -> str:
    """What one fit keeps of a promise of 5 %, and what can be promised of it with a confidence."""
    from unmask.inspection.guarantee import best_rate, rank_for, rate_interval

    lines = []
    for n in (19, 40, 59, 100, 200, 500):
        low, high = rate_interval(n, rank_for(n, 0.05))
        sure = f"{100 * rate_interval(n, rank_for(n, 0.05, 0.95))[1]:.1f} %" if n >= 59 else "-"
        lines.append([n, f"{100 * low:.1f} to {100 * high:.1f} %", sure, f"{100 * best_rate(n, 0.95):.3g} %"])
    head = ["held-out images", "5 % on average: 9 of 10 fits keep", "5 % with confidence 0.95: 19 of 20 keep at most"]
    return _table([*head, "least rate with that confidence"], lines)


def recalibration_table(results: Path = RESULTS / "recalibration.json") -> str:
    """False alarms and recall in % under another focus and another light, before and after `unmask calibrate`."""
    found = json.loads(results.read_text(encoding="utf-8"))
    names = [f"{name}_{when}" for name in ("false_alarms", "recall") for when in ("before", "after")]
    lines = []
    for row in found["rows"]:
        shares = [f"{100 * row[name]:.0f}" for name in names]
        lines.append([row["dataset"], row["change"], row["n_held_out"], *shares, row["seconds"]])
    head = ["data set", "change", "good images", "false alarms before", "after", "recall before", "after", "seconds"]
    return f"{_table(head, lines)}\n\n- `{found['command']}`, seed {found['seed']}."


def pixel_metrics_table(results: Path = RESULTS / "pixel_metrics.json") -> str:
    """Seconds, memory and error of the pixel metrics beside those of other tools."""
    found = json.loads(results.read_text(encoding="utf-8"))
    names = {"auroc": "pixel AUROC", "average_precision": "pixel AP", "aupro": "AUPRO"}
    lines = []
    for tool, row in found["tools"].items():
        bounds = row.get("stated_bound", {})
        off = [f"{row['off'][name]:.1e}" if row["off"][name] else "exact" for name in names]
        off = [f"{error} ({bounds[name]:.1e})" if bounds else error for name, error in zip(names, off, strict=True)]
        version = found["versions"].get({"adeval": "ADEval"}.get(tool, tool), "")
        lines.append([f"{tool} {version}".strip(), f"{row['seconds']:.1f}", f"{row['peak_mb']:,}", *off])
    head = ["tool", "seconds, reading included", "peak memory, MB", *(f"{name} off by" for name in names.values())]
    made = f"`{found['command']}` at commit {found['commit']} on {found['threads']} thread of {found['processor']}"
    return "\n".join([_table(head, lines), "", f"- {made}, {found['date']}. In brackets the bound that unmask states."])


def align_table(results: Path = RESULTS / "align.json") -> str:
    """Parts that do not lie still: figures of each data set, displaced and aligned in each way."""
    if not results.exists():
        return NO_FIGURES
    rows = json.loads(results.read_text(encoding="utf-8"))["align"]
    pairs = list(dict.fromkeys((row["displaced"], row["align"]) for row in rows))
    names = sorted({row["dataset"] for row in rows})
    lines = []
    for displaced, align in pairs:
        cells = [_aligned(rows, name, displaced, align) for name in names]
        lines.append([displaced, align, *cells])
    return _table(["displaced", "`--align`", *names], lines)


def _aligned(rows: Sequence[Mapping[str, Any]], name: str, displaced: str, align: str) -> str:
    wanted = {"dataset": name, "displaced": displaced, "align": align}
    some = [row for row in rows if wanted.items() <= row.items()]
    keys = ("image_auroc", "false_alarm_rate", "recall")
    auroc, alarms, recall = (100 * sum(row[key] for row in some) / len(some) for key in keys)
    return f"{auroc:.1f} / {alarms:.0f} / {recall:.0f}"


def sensitivity_table(results: Path = RESULTS / "sensitivity.json") -> str:
    """What sensitivity cards say of real defects, and recall: a line a data set, at the models' own thresholds."""
    if not results.exists():
        return NO_FIGURES
    found = json.loads(results.read_text(encoding="utf-8"))
    lines = []
    for row in sorted((row for row in found["rows"] if row["raised"] == 0), key=lambda row: row["dataset"]):
        bins = [f"{100 * one['predicted']:.0f} / {100 * one['recall']:.0f}" for one in row["bins"]]
        shares = [f"{100 * row[name]:.0f}" for name in ("share_of_marks", "recall")]
        lines.append([row["dataset"], *(bins or ["no masks"] * 3), *shares])
    head = ["data set", *(f"{size}: card / recall" for size in ("small", "middle", "large")), "all marks", "recall"]
    bins, sets, first = found["agreement"]["bins"], found["agreement"]["sets"], found["rows"][0]
    own = bins["own_threshold"]
    words = [
        f"{own['n']} groups of defects at the models' own thresholds: rank correlation {_shown(own)}, the card is off "
        f"by {100 * own['mean_distance']:.0f} points on average ({100 * own['mean_difference']:+.0f} with its sign).",
        f"{bins['n']} groups, two higher thresholds included: rank correlation {_shown(bins)}, off by "
        f"{100 * bins['mean_distance']:.0f} points ({100 * bins['mean_difference']:+.0f}).",
        f"Rank correlation of recall with the share of all planted marks found: {_shown(sets['own_threshold'])} "
        f"between the {sets['own_threshold']['n']} data sets at their own thresholds, {_shown(sets)} over all "
        f"{sets['n']} pairs of a data set and a threshold.",
        f"`{found['command']}` at commit {first['commit']} on {first['cores']} cores of {first['processor']}, "
        f"{first['date']}.",
    ]
    return "\n".join([_table(head, lines), "", *(f"- {line}" for line in words)])


def _shown(found: Mapping[str, Any]) -> str:
    return "not known" if found["rank_correlation"] is None else f"{found['rank_correlation']:.2f}"


def speed_table(results: Path = RESULTS / "speed") -> str:
    """The rows of a run on one data set, alone on the machine: the fastest first."""
    from unmask.benchmark.results import JSON, by_method, mean, rows_of
    from unmask.benchmark.summary import figure

    if not (results / JSON).exists():
        return NO_FIGURES
    rows = rows_of(results)
    fastest = sorted(by_method(rows).items(), key=lambda one: mean(one[1], "ms_p50") or 0.0)
    lines = [[name, *(figure(some, key, factor) for key, (_, factor) in COSTS.items())] for name, some in fastest]
    table = _table(["method", *(title for title, _ in COSTS.values())], lines)
    return "\n".join([table, "", *(f"- {line}" for line in _provenance(rows))])


def family_table(speed: Path = RESULTS / "speed") -> str:
    """Each detector in a sentence, its seconds to fit one data set, and its means over six sets."""
    from unmask.benchmark.results import by_method, rows_of
    from unmask.benchmark.summary import figure

    fits, means = by_method(rows_of(speed)), by_method(latest(*BENCHES))
    lines = []
    for name, sentence in IN_A_SENTENCE.items():
        fast = f"{name} fast"
        areas = [figure(means[fast], key, 100) for key in ("image_auroc", "pixel_auroc")]
        lines.append([f"`{name}`", sentence, figure(fits[fast], "fit_seconds", 1), *areas])
    return _table(["name", "in a sentence", "fit of mvtec_bottle, s", "image AUROC", "pixel AUROC"], lines)


def scaling_table(results: Path = RESULTS / "speed" / "scaling") -> str:
    """How seconds, megabytes and milliseconds grow."""
    from unmask.benchmark.results import JSON, rows_of
    from unmask.benchmark.scaling import table

    if not (results / JSON).exists():
        return NO_FIGURES
    rows = rows_of(results)
    head, lines = table(rows)
    shown = [
        [name, *("-" if one is None else f"{one:,.{0 if one >= 100 else 1}f}" for one in more)] for name, *more in lines
    ]
    return "\n".join([_table(head, shown), "", *(f"- {line}" for line in (*_provenance(rows), *_failures(rows)))])


def _provenance(rows: Sequence[dict[str, Any]]) -> list[str]:
    """How the rows were made, and which failed: a line for each way, with the last of commands that differ in seeds."""
    ways: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if not row["failed"]:
            where = f"{row['cores']} cores of {row['processor']}, {row['threads']} threads a row"
            made = f"at commit {row['commit']} on {where}, {row['date']}"
            ways[re.sub(r" --(seeds \d+|resume)", "", row["command"]) + made].append({**row, "made": made})
    lines = []
    for some in ways.values():
        command = max(row["command"] for row in some)
        seeds = ", ".join(map(str, sorted({row["seed"] for row in some})))
        lines.append(f"`{command}` {some[0]['made']}: {len(some)} rows, seeds {seeds}.")
    return lines


def _failures(rows: Sequence[dict[str, Any]]) -> list[str]:
    from unmask.benchmark.methods import method_of

    failed = [row for row in rows if row["failed"]]
    return [f"No figures of `{method_of(row)}` on {row['dataset']}: {row['failed']}." for row in failed]


def commands_table() -> str:
    """What `unmask --help` lists."""
    import typer

    from unmask.cli.app import app

    commands = typer.main.get_group(app).commands
    return _table(["command", "what it does"], [[f"`unmask {name}`", one.help] for name, one in commands.items()])


def settings_table(detector: str) -> str:
    """The settings of a detector with the values of each preset, and what its docstring says of them."""
    from unmask.detectors import find, settings_of

    kind = find(detector)
    meanings = _arguments(inspect.getdoc(kind) or "")
    lines = []
    for name, parameter in settings_of(kind).items():
        values = [preset.get(name, parameter.default) for preset in kind.presets.values()]
        lines.append([f"`{name}`", *(f"`{value}`" for value in values), meanings[name]])
    return _table(["setting", *(f"`{preset}`" for preset in kind.presets), "meaning"], lines)


def refinement_table(results: Path = RESULTS) -> str:
    """Image AUROC in % by number of passes as `benchmarks/refinement.py` found it: mean ± deviation over the seeds."""
    parts = []
    for path in sorted(results.glob("ssm_refinement_*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        by_score = defaultdict(list)
        for row in found["refinement"]:
            by_score[row["score"]].append(row)
        for score, rows in by_score.items():
            preset, tests = rows[0]["preset"], sum({row["dataset"]: row["n_test"] for row in rows}.values())
            parts.append(f"**`{preset}`, score = {score}**, {tests} test images")
            parts.append(_refinement(rows))
        last = found["refinement"][-1]
        commits = ", ".join(dict.fromkeys(row["commit"] for row in found["refinement"]))
        made = f"at commit {commits} on {last['cores']} cores of {last['processor']}"
        parts.append(f"`{found['command']}` {made}, torch {last['torch']}.")
    return "\n\n".join(parts) or NO_FIGURES


def _refinement(rows: Sequence[dict[str, Any]]) -> str:
    """A line a data set, a column a number of passes, and the means."""
    passes = sorted({row["passes"] for row in rows})
    cells = defaultdict(list)
    for row in rows:
        cells[row["dataset"], row["passes"]].append(row)
    lines = [
        [dataset, *(_percent([row["image_auroc"] for row in cells[dataset, t]]) for t in passes)]
        for dataset in sorted({row["dataset"] for row in rows})
    ]
    seeds = sorted({row["seed"] for row in rows})

    def mean(t: int, seed: int) -> float:
        return statistics.mean(row["image_auroc"] for row in rows if (row["passes"], row["seed"]) == (t, seed))

    means = {t: [mean(t, seed) for seed in seeds] for t in passes}
    gained = [_gain([b - a for a, b in zip(means[passes[0]], means[t], strict=True)]) for t in passes]
    lines.append(["**mean**", *(f"**{_percent(means[t])}**" for t in passes)])
    lines.append(["gained over one pass", *gained])
    columns = {t: [row for row in rows if row["passes"] == t] for t in passes}
    lines.append(["left covered, good / anomalous", *(_covered(columns[t]) for t in passes)])
    lines.append(["ms an image", *(f"{statistics.median(row['ms'] for row in columns[t]):.0f}" for t in passes)])
    return _table([f"data set, {len(seeds)} seeds", *(f"T = {t}" for t in passes)], lines)


def _percent(values: Sequence[float]) -> str:
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{spread}"


def _gain(values: Sequence[float]) -> str:
    spread = f" ({100 * min(values):+.2f} to {100 * max(values):+.2f})" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):+.2f}{spread}"


def _covered(rows: Sequence[dict[str, Any]]) -> str:
    good, anomalous = (100 * statistics.mean(row[key] for row in rows) for key in ("covered_good", "covered_anomalous"))
    return f"{good:.0f} % / {anomalous:.0f} %"


def watch_tables(results: Path = RESULTS / "stream_watch.json") -> str:
    """False warnings of the watch, and images until it warns of each disturbance."""
    found = json.loads(results.read_text(encoding="utf-8"))
    drawn = [*found["exchangeable"], *(one for row in found["real"] for one in row["resampled"])]
    warned, images = (sum(one[key] for one in drawn) for key in ("warnings", "images"))
    told = [f"{row['dataset']}: {row['in_file_order']}" for row in found["real"] if row["in_file_order"]]
    lines = [
        [row["dataset"], {"mild": "half of mild", "twice_mild": "mild"}[level], *map(_delay, row[level].values())]
        for row in found["real"]
        for level in ("mild", "twice_mild")
    ]
    return f"""- {warned} false warnings in {images:,} images: exchangeable numbers, and measures of real good images
  in a random order; with 20, 50 and 200 normal ones.
- {len(told)} of {len(found["real"])} real streams of good test images, in the order of their files after a fit on the
  others, are told as a change{"".join(f"; {one}" for one in told)}.

Images until the line, after 100 undisturbed ones and with 100 normal ones: the median of three tries, and in how many
of them it came within 300 images where that was not all.

{_table(["data set", "amount", *found["real"][0]["mild"]], lines)}

- `python benchmarks/stream_watch.py` at commit {found["commit"]}, {found["date"]}."""


def _delay(tries: Sequence[Mapping[str, Any] | None]) -> str:
    noticed = [one["delay"] for one in tries if one is not None]
    shares = "" if len(noticed) == len(tries) else f" ({len(noticed)} of {len(tries)})"
    return f"{statistics.median(noticed):.0f}{shares}" if noticed else "-"


def refusals_tables(results: Path = RESULTS / "refusals.json") -> str:
    """How many test images are not judged, and how many of other products."""
    found = json.loads(results.read_text(encoding="utf-8"))
    names = [row["dataset"] for row in found["rows"]]

    def share(groups: Sequence[Mapping[str, int]]) -> str:
        return f"{sum(one['refused'] for one in groups)} of {sum(one['images'] for one in groups):,}"

    def all_of(key: str) -> str:
        return share([group for row in found["rows"] for group in row[key].values()])

    own = share([row[key] for row in found["rows"] for key in ("good", "defective")])
    lines = [
        [row["dataset"], *("" if name == row["dataset"] else share([row["others"][name]]) for name in names)]
        for row in found["rows"]
    ]
    return f"""- {own} test images, good and defective, are refused by the model of their set, and {all_of("disturbed")}
  of them disturbed as `--tolerate mild` says.
- {all_of("spoilt")} black, white, capped or cut-off pictures are refused.

Test images of one set (column) that the model of another (line) refuses:

{_table(["model of", *names], lines)}

- `python benchmarks/refusals.py` at commit {found["commit"]}, {found["date"]}."""


def rooms_table() -> str:
    """The rooms in the order that a test holds the imports to."""
    rooms = runpy.run_path(str(ROOT / "tests" / "test_architecture.py"))["ROOMS"]
    names = [room for room in rooms if room != "__main__"]
    docstrings = [__import__(f"unmask.{name}", fromlist=["__doc__"]).__doc__ or "" for name in names]
    return _table(
        ["room", "what it is for"], [[f"`{n}`", d.splitlines()[0]] for n, d in zip(names, docstrings, strict=True)]
    )


def kinds_table() -> str:
    """The kinds of disturbance that can be tolerated, and how much of each a level means."""
    from unmask.imaging.tolerance import LEVELS, LIMITS, written

    lines = []
    for kind, what in KINDS.items():
        most = LIMITS[kind][0 if kind == "jpeg" else 1]
        lines.append(
            [
                f"`{kind}`",
                what,
                *(written(kind, LEVELS[level][kind]) for level in ("mild", "strong")),
                written(kind, most),
            ]
        )
    return _table(["kind", "what happens, up to the amount", "mild", "strong", "most"], lines)


PARTS: dict[tuple[str, str], Callable[[], str]] = {
    ("README.md", "benchmark"): benchmark_table,
    ("README.md", "speed"): speed_table,
    ("docs/tolerance.md", "kinds"): kinds_table,
    ("docs/evaluation.md", "thresholds"): threshold_table,
    ("docs/evaluation.md", "intervals"): interval_table,
    ("docs/evaluation.md", "recalibration"): recalibration_table,
    ("docs/evaluation.md", "pixel_metrics"): pixel_metrics_table,
    ("docs/evaluation.md", "robustness"): robustness_table,
    ("docs/evaluation.md", "false_alarms"): false_alarms_table,
    ("docs/evaluation.md", "kept_rate"): kept_rate_table,
    ("docs/evaluation.md", "scaling"): scaling_table,
    ("docs/evaluation.md", "align"): align_table,
    ("docs/evaluation.md", "sensitivity"): sensitivity_table,
    ("README.md", "commands"): commands_table,
    ("README.md", "fragility"): fragility_sentence,
    ("README.md", "runtime"): runtime_sentence,
    ("docs/watch.md", "stream_watch"): watch_tables,
    ("docs/watch.md", "refusals"): refusals_tables,
    ("docs/architecture.md", "rooms"): rooms_table,
    **{
        ("docs/detectors.md", name): partial(settings_table, name)
        for name in ("fuse", "patchcore", "fre", "protoad", "isstad", "ssm")
    },
    ("docs/detectors.md", "family"): family_table,
    ("docs/detectors.md", "refinement"): refinement_table,
}


def generated(file: str) -> str:
    """The text of a file with every part between <!-- NAME:start --> and <!-- NAME:end --> made anew."""
    text = (ROOT / file).read_text(encoding="utf-8")
    for (name, part), make in PARTS.items():
        if name == file:
            start, end = f"<!-- {part}:start -->", f"<!-- {part}:end -->"
            before, _, rest = text.partition(start)
            text = f"{before}{start}\n{make()}\n{end}{rest.partition(end)[2]}"
    return text


def _arguments(docstring: str) -> dict[str, str]:
    """Name -> text of a google-style "Args:" section."""
    section = docstring.partition("Args:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _table(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)


def main() -> None:
    """Bring every file up to date."""
    for file in dict.fromkeys(name for name, _ in PARTS):
        (ROOT / file).write_text(generated(file), encoding="utf-8")


if __name__ == "__main__":
    main()
