"""The command that describes a data set and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from unmask.cli import options as opt
from unmask.cli.console import out


def data(
    path: Annotated[
        Path, typer.Argument(help="A data set's folder, a CSV manifest, or a JSON file of Real-IAD, COCO or Datumaro.")
    ],
    seed: Annotated[int, typer.Option(help="Random seed: which good images are held out.")] = 0,
    group: Annotated[
        str | None,
        typer.Option(help="A regular expression on image paths; images that it gives one name stay on one side."),
    ] = None,
    recursive: opt.Recursive = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Show what a folder is recognised as, and count its images; nothing is changed."""
    from unmask.datasets import load, summary
    from unmask.imaging.accounting import sentence

    split = load(path, seed=seed, groups=group, recursive=recursive)
    counts = summary(split)
    if as_json:
        out(json.dumps(counts))
        return
    for line in (*_lines(counts), f"{sentence(split.seen, split.skipped)}."):
        out(line)
    for warning in counts["warnings"]:
        out(f"Note: {warning}")


def _lines(counts: Mapping[str, Any]) -> Iterator[str]:
    """The counts as lines of a name and a figure."""
    kinds = counts["test_anomalous"]
    by_kind = f" ({', '.join(f'{kind} {count}' for kind, count in kinds.items())})" if kinds else ""
    yield f"{counts['name']}: {counts['layout']}"
    yield f"{'good images to learn from':26} {counts['normals']}"
    yield f"{'good images held out':26} {counts['held_out']}"
    yield f"{'good test images':26} {counts['test_good']}"
    yield f"{'anomalous test images':26} {sum(kinds.values())}{by_kind}"
    yield f"{'masks':26} {counts['masks']}"
    yield f"{'image size':26} {_sizes(counts['image_sizes'])}"


def _sizes(sizes: Mapping[str, Any]) -> str:
    """Width x height of all images, or the range of them."""
    smallest, largest, common = (
        f"{width} x {height}" for width, height in (sizes["smallest"], sizes["largest"], sizes["most_common"])
    )
    if sizes["distinct"] == 1:
        return common
    return f"{smallest} to {largest}, {sizes['distinct']} sizes, most often {common}"
