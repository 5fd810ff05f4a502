"""The command line, generated from the dataclasses below and from `Config`."""

from __future__ import annotations

import io
import os
import shlex
import signal
import sys
import warnings
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from slicer_lite.config import PRESETS, Config
from slicer_lite.lape.commands import Lape

# What carries a command out is imported when it runs: help and mistakes in what was typed need none of it.


@dataclass(frozen=True)
class MakeSounds:
    """Write the embedded sound world, labelled sounds made by code, into a folder."""

    out: Path
    """The folder to make."""
    clips: int = 3200
    """How many sounds."""
    seed: int = 0
    """Another seed makes another world."""
    debug: bool = False
    """Show where in the code an error arose."""

    def run(self) -> None:
        from slicer_lite.sounds import make_sounds

        print(
            f"{self.clips} sounds and their manifest.csv are in {make_sounds(self.out, self.clips, self.seed)}"
        )


@dataclass(frozen=True)
class Pretrain:
    """Pre-train SLICER on unlabelled clips; the same command goes on with a run that was stopped.

    Sources of settings: [P] the SLICER paper, [R] the authors' released toolkit, [B] BYOL-A, [C] Contrastive
    Clustering, [M] MoCo v2, [ours] decided here.
    """

    data: str
    """A folder of audio, a folder with manifest.csv, a CSV file, or `sounds` (the embedded sound world)."""
    out: Path
    """The run folder: weights, metrics, curves and checkpoints."""
    preset: Literal["tiny", "small", "paper"] = "tiny"
    """The settings to begin with; those below change single ones."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    strict: bool = False
    """Stop at the first file that cannot be read, instead of skipping it."""
    allow_outside: bool = False
    """Let paths in a CSV, and links, lead out of the data's folder."""
    debug: bool = False
    """Show where in the code an error arose."""
    tensorboard: bool = False
    """Keep the metrics as TensorBoard's events too: tensorboard --logdir RUN."""
    checkpoint_seconds: float = 30.0
    """A checkpoint is written at least this often; more often as long as that takes under 2 % of the time."""
    compile: bool = False
    """On a CUDA GPU: make the networks faster by torch.compile first, which takes half a minute."""
    settings: tyro.conf.OmitArgPrefixes[Config] = field(default_factory=lambda: PRESETS["tiny"])

    def run(self) -> None:
        from slicer_lite.training import health
        from slicer_lite.training.pretrain import pretrain
        from slicer_lite.training.run_folder import read_metrics

        pretrain(
            self.settings,
            self.data,
            self.out,
            device=self.device,
            tensorboard=self.tensorboard,
            compile=self.compile,
            checkpoint_seconds=self.checkpoint_seconds,
            strict=self.strict,
            allow_outside=self.allow_outside,
        )
        if not _speaks():
            return
        # None of a finished run whose metrics have been deleted.
        for last in [line for line in read_metrics(self.out) if "rank" in line][-1:]:
            clusters = "clusters_used" in last and f"; {last['clusters_used']:.0%} of the clusters are in use"
            print(
                f"{self.out}: {last['step']:.0f} steps. The embeddings fill about {last['rank']:.0f} of "
                f"{last['largest_rank']:.0f} dimensions{clusters or ''}."
            )
            for sentence in health.diagnose(last) if last["step"] >= health.SETTLED else []:
                print(sentence)
        print(
            f"Weights, metrics and curves.png are there. Next: slicer-lite probe --weights "
            f"{shlex.quote(str(self.out))} --data …"
        )


@dataclass(frozen=True)
class Embed:
    """Embed clips with a trained encoder; writes a NumPy file of embeddings and the clips' paths."""

    weights: Path
    """A run folder, a .safetensors file, or the name of weights that come with the package."""
    data: str
    """A folder of audio, a folder with manifest.csv, a CSV file, or `sounds`."""
    out: Path
    """The .npz file to write: `embeddings` (N, dim) and `paths` (N,)."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    strict: bool = False
    """Stop at the first file that cannot be read, instead of skipping it."""
    allow_outside: bool = False
    """Let paths in a CSV, and links, lead out of the data's folder."""
    debug: bool = False
    """Show where in the code an error arose."""

    def run(self) -> None:
        import numpy as np

        from slicer_lite.audio.store import load_clips
        from slicer_lite.base.device import choose_device
        from slicer_lite.base.files import write_durably
        from slicer_lite.explore.embed import embed
        from slicer_lite.share.weights import load

        encoder = load(self.weights).encoder.to(choose_device(self.device))
        out = _new_file(self.out, ".npz")
        clips = load_clips(self.data, strict=self.strict, allow_outside=self.allow_outside)
        embeddings = embed(encoder, clips, progress=True)
        paths = np.array([str(path) for path in clips.paths])
        write_durably(out, lambda file: np.savez(file, embeddings=embeddings, paths=paths))
        print(f"{len(embeddings)} embeddings of {embeddings.shape[1]} numbers are in {out}")


@dataclass(frozen=True)
class Probe:
    """Linear-probe accuracy on every labelled task of a data set, beside three baselines."""

    weights: Path
    """A run folder, a .safetensors file, or the name of weights that come with the package."""
    data: str
    """A folder with manifest.csv, a CSV file, or `sounds`; it needs labels and splits."""
    json: Path | None = None
    """Where to write the results."""
    seed: int = 0
    """Of the untrained encoder's weights and of the folds in which probes are regularised."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    strict: bool = False
    """Stop at the first file that cannot be read, instead of skipping it."""
    allow_outside: bool = False
    """Let paths in a CSV, and links, lead out of the data's folder."""
    debug: bool = False
    """Show where in the code an error arose."""

    def run(self) -> None:
        from slicer_lite.audio.store import load_clips
        from slicer_lite.base.device import choose_device
        from slicer_lite.base.files import write_json
        from slicer_lite.probe.evaluate import as_text, evaluate
        from slicer_lite.share.weights import load

        pretrained, device = load(self.weights), str(choose_device(self.device))
        out = None if self.json is None else _new_file(self.json, ".json")
        clips = load_clips(self.data, strict=self.strict, allow_outside=self.allow_outside)
        results = evaluate(pretrained, clips, self.seed, True, device)
        if out is not None:
            write_json(out, results)
        print("Accuracy in per cent, with 95 % intervals:")
        print(as_text(results))
        if out is not None:
            print(f"All figures are in {out}")


@dataclass(frozen=True)
class Export:
    """Write a trained encoder for use elsewhere; the name of the file says how."""

    weights: Path
    """A run folder, a .safetensors file, the name of weights that come with the package, or a .ckpt, .pth or .pt
    file under LAPE's names."""
    out: Path
    """A name ending in .onnx (ONNX), .pt2 (torch.export), .ckpt (a checkpoint under LAPE's names) or
    .safetensors (ours)."""
    int8: bool = False
    """ONNX only: keep the weights of the linear layers in 8 bits."""
    debug: bool = False
    """Show where in the code an error arose."""

    def run(self) -> None:
        from slicer_lite.lape.checkpoints import load_lape, save_lape
        from slicer_lite.share import export
        from slicer_lite.share.weights import LAPE_SUFFIXES, load, save_weights

        kind = self.out.suffix
        if kind not in EXPORTS or (self.int8 and kind != ".onnx"):
            raise ValueError(
                f"--out {self.out}: its name must end in {' or '.join(EXPORTS)}, and --int8 goes with .onnx only."
            )
        pretrained = load_lape(self.weights) if self.weights.suffix in LAPE_SUFFIXES else load(self.weights)
        out = _new_file(self.out, kind)
        if kind == ".onnx":
            export.save_onnx(pretrained.encoder, out, self.int8)
        elif kind == ".pt2":
            export.save_program(pretrained.encoder, out)
        elif kind == ".ckpt":
            save_lape(pretrained, out)
        else:
            parts = pretrained.network, pretrained.centroids, pretrained.config, pretrained.step
            save_weights(out, *parts, pretrained.heard)
        print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


@dataclass(frozen=True)
class Doctor:
    """Is everything here that slicer-lite needs? One line each, with the remedy."""

    debug: bool = False
    """Show where in the code an error arose."""

    def run(self) -> None:
        from slicer_lite import doctor

        findings = doctor.examine()
        print(doctor.as_text(findings))
        if any(finding.state == "broken" for finding in findings):
            sys.exit(1)


EXPORTS = (".onnx", ".pt2", ".ckpt", ".safetensors")
COMMANDS = {
    "make-sounds": MakeSounds,
    "pretrain": Pretrain,
    "embed": Embed,
    "probe": Probe,
    "lape": Lape,
    "export": Export,
    "doctor": Doctor,
}
_ANY: Any = reduce(or_, (Annotated[kind, tyro.conf.subcommand(name)] for name, kind in COMMANDS.items()))


def main(arguments: list[str] | None = None) -> None:
    """Run a command. Exit codes: 0 done, 1 failed with a sentence that says why, 2 misused, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names may have letters that the terminal lacks
    warnings.showwarning = lambda message, *_, **__: _say(f"Note: {message}")
    command = None
    try:
        command = _parse(arguments)
        command.run()
    except KeyboardInterrupt as stopped:
        several = int(os.environ.get("WORLD_SIZE", "1")) > 1
        again = "the same torchrun command" if several else f"slicer-lite {shlex.join(arguments)}"
        if str(stopped):
            _say(f"Interrupted: {stopped}. To go on: {again}")
        elif isinstance(command, Pretrain):
            _say(f"Interrupted at once. To go on from the last checkpoint, if there is one: {again}")
        elif isinstance(command, Lape):
            _say(f"Interrupted: tasks that were finished are kept. To go on: {again}")
        else:
            _say("Interrupted.")
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # Whoever read the output, `head` for one, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, FloatingPointError, MemoryError, ModuleNotFoundError) as error:
        if "--debug" in arguments:
            raise
        print(f"Error: {error or type(error).__name__}", file=sys.stderr)
        sys.exit(1)


def _speaks() -> bool:
    """Of torchrun's processes one speaks."""
    return int(os.environ.get("RANK", "0")) == 0


def _say(sentence: str) -> None:
    if _speaks():
        print(sentence, file=sys.stderr)


def _parse(arguments: list[str]) -> MakeSounds | Pretrain | Embed | Probe | Lape | Export | Doctor:
    """Read the command line; the preset that it names gives the defaults that its help shows."""
    flags = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes)
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if name not in COMMANDS:  # --help, or a mistake
        return tyro.cli(_ANY, args=arguments, prog="slicer-lite", config=flags)
    prog, preset = f"slicer-lite {name}", _value_of("--preset", rest)
    if name == "pretrain" and preset in PRESETS:
        default = Pretrain(tyro.MISSING, tyro.MISSING, preset, settings=PRESETS[preset])  # type: ignore[arg-type]
        return tyro.cli(Pretrain, args=rest, prog=prog, default=default, config=flags)
    return tyro.cli(COMMANDS[name], args=rest, prog=prog, config=flags)


def _value_of(option: str, arguments: list[str]) -> str | None:
    """What an option is given, the last time if it is given several times; None if it is not."""
    value = None
    for place, argument in enumerate(arguments):
        if argument == option and place + 1 < len(arguments):
            value = arguments[place + 1]
        elif argument.startswith(f"{option}="):
            value = argument.partition("=")[2]
    return value


def _new_file(path: Path, suffix: str) -> Path:
    """A file name to write to: checked before the work, so that the work is not lost."""
    from slicer_lite.base.files import need_writable

    path = path.expanduser()
    if not path.name or path.is_dir():
        raise ValueError(f"{path} is a folder: give the name of a file.")
    if path.suffix != suffix:
        path = path.with_name(path.name + suffix)
    if path.exists():
        raise ValueError(f"{path} is there already: choose another name, or remove it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    need_writable(path.parent)
    return path
