"""What `lape run` lets one choose, for the command line, which should not load what carries it out."""

from __future__ import annotations

from typing import Literal

Protocol = Literal["lape", "quick"]  # see `slicer_lite.lape.run.PROTOCOLS`
Baseline = Literal["majority", "mel", "untrained", "supervised"]
