"""The options that commands share, each with its help in one full sentence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    Context = typer.Context
else:
    Context = typer.Context.__base__  # of click, or of the copy of it inside typer: that is what a command is given

Source = Annotated[Path, typer.Argument(help="A folder of good images, or a data set (MVTec AD, VisA, CSV, ...).")]
Model = Annotated[Path, typer.Argument(help="A model file written by: unmask fit, or unmask export.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The model file to write.")]
Report = Annotated[Path | None, typer.Option("--report", "-o", help="Folder for a report: open its index.html.")]
Seed = Annotated[int, typer.Option(help="Random seed.")]

Recursive = Annotated[
    bool, typer.Option("--recursive/--no-recursive", help="Use images in folders inside folders too, or skip them.")
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Stop at the first image that cannot be judged, with exit code 2 and no report."),
]
Refuse = Annotated[
    bool,
    typer.Option("--refuse/--no-refuse", help="Refuse images that are nothing like the good ones, or judge them too."),
]

# --- what to learn ----------------------------------------------------------------------------------------------------

DetectorName = Annotated[
    str, typer.Option("--detector", help="The method, or several: patchcore+fre. See: unmask detectors.")
]
Preset = Annotated[str, typer.Option(help="Named settings of the detector: fast (for a CPU), paper, and others.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="One setting of the detector as NAME=VALUE. Can be repeated.")
]
Tolerate = Annotated[
    str,
    typer.Option(
        help="What good images may differ by: mild, none, strong, or a list such as blur,jpeg=75,shift=6% (of: "
        "blur, jpeg, noise, motion, light, color, shift, turn, zoom)."
    ),
]
Calibrate = Annotated[
    str | None,
    typer.Option(
        help="Where thresholds come from: cross = all images, each scored by a fit without it; split = a fifth of them "
        "is held out. Unless it is given, cross for detectors that fit in seconds."
    ),
]
FalseAlarmRate = Annotated[
    float | None, typer.Option(help="Share of good images that may be flagged; 0.05 unless it is given.")
]
Confidence = Annotated[
    float | None,
    typer.Option(help="Probability that this threshold in itself keeps the share, such as 0.95; on average otherwise."),
]
Groups = Annotated[
    str | None,
    typer.Option(
        "--group",
        help="Regular expression for the group in an image's path (a patient, a lot): a group is not divided.",
    ),
]

# --- how to run -------------------------------------------------------------------------------------------------------

Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda or mps.")]
Devices = Annotated[int, typer.Option(help="Processes on this machine, for detectors that train in steps.")]
Nodes = Annotated[int, typer.Option(help="Machines, for detectors that train in steps.")]
MaxMinutes = Annotated[float | None, typer.Option(help="Time limit in minutes, for detectors that train in steps.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on where an interrupted fit stopped; for detectors that train in steps.")
]
MaxMemory = Annotated[
    str | None,
    typer.Option(help="Memory for the whole program, such as 1GB or 800MB; the rest goes to a file."),
]
Scratch = Annotated[Path | None, typer.Option(help="Folder on a disk for features that do not fit into memory.")]

# --- how images are read ----------------------------------------------------------------------------------------------

Resize = Annotated[
    str, typer.Option(help="For images that are not square: squash, fit (add a margin) or crop (judge the middle).")
]
Tile = Annotated[
    int | None, typer.Option(help="Cut images into tiles of this many pixels along a side: for small defects.")
]
Overlap = Annotated[float, typer.Option(help="Overlap of neighbouring tiles, as a share of their side.")]
Region = Annotated[
    str | None, typer.Option(help="Judge only a box x0,y0,x1,y1 in pixels, or the white part of this picture.")
]
Align = Annotated[
    str,
    typer.Option(help="Bring parts to one pose first: none, shift (up to a quarter of the image), turn (any angle)."),
]
Intensity = Annotated[
    str | None,
    typer.Option(
        "--intensity-range",
        help="Values that become black and white, LOW,HIGH: 0,4095 for 12 bits. Learned from 16-bit images otherwise.",
    ),
]
Bands = Annotated[
    str | None, typer.Option(help="Bands that become grey (one) or RGB (three), counted from 1, such as 3,2,1.")
]
Page = Annotated[
    str | None, typer.Option(help="Picture to take from files of several, counted from 1; or all: each is an image.")
]
MaxPixels = Annotated[
    float | None, typer.Option(help="Refuse images with more pixels than this: 100 million unless it is given.")
]
Backend = Annotated[str, typer.Option(help="What computes: auto, torch, onnx or openvino.")]
