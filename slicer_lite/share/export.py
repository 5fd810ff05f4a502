"""A trained encoder as one file that runs without this package: waveform in, embedding out.

The optional packages are those of the extra `export`; torch.export itself needs none.
"""

from __future__ import annotations

import copy
import io
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import slicer_lite
from slicer_lite.base.files import write_durably
from slicer_lite.config import SAMPLE_RATE, WINDOW
from slicer_lite.explore.embed import Embedder
from slicer_lite.method.encoder import Encoder, FrameEncoder
from slicer_lite.method.wrapped import kind_of

OPSET = 20  # of ONNX: the first whose DFT operator takes its axis as an input, as PyTorch writes it
_INPUT, _OUTPUT = "waveform", "embedding"


def to_program(encoder: FrameEncoder) -> torch.export.ExportedProgram:
    """Log-mel, standardisation, encoder and pooling as one program of `torch.export`.

    Its input is `(B, S)` float32 waveforms in [-1, 1] at 16 kHz, both sizes free, its output `(B, dim)`: what
    `slicer_lite.explore.embed` gives for clips of one length.

    Raises:
        ValueError: an encoder of one's own that torch.export cannot follow.
    """
    model = Embedder(copy.deepcopy(encoder)).cpu().eval().requires_grad_(False)
    model.to(
        memory_format=torch.contiguous_format
    )  # torch.export.save wants plain tensors, none a part of another
    for name, buffer in list(model.logmel.named_buffers()):
        setattr(model.logmel, name, buffer.clone(memory_format=torch.contiguous_format))
    free = torch.export.Dim.DYNAMIC
    try:
        with torch.no_grad():
            return torch.export.export(
                model, (torch.zeros(2, 3 * WINDOW),), dynamic_shapes={_INPUT: {0: free, 1: free}}
            )
    except (RuntimeError, ValueError, TypeError) as error:
        if isinstance(encoder, Encoder):
            raise
        raise ValueError(
            f"encoder: {kind_of(encoder)} cannot be exported, since torch.export cannot follow it for any number of "
            f"windows: {str(error).strip().splitlines()[0][:300]}"
        ) from error


def save_program(encoder: FrameEncoder, path: Path) -> None:
    """Write `to_program` as a `.pt2` file, which `torch.export.load(path).module()` reads."""
    content = io.BytesIO()
    torch.export.save(to_program(encoder), content)
    write_durably(path, content.getvalue())


def save_onnx(encoder: FrameEncoder, path: Path, int8: bool = False) -> None:
    """Write the program of `to_program` as an ONNX file.

    Args:
        encoder: of `slicer_lite.load_encoder`.
        path: replaced if it is there.
        int8: keep the weights of the two linear layers, by far the most, in 8 bits, one scale a column;
            their inputs are rounded to 8 bits when they arrive. Spectrogram and convolutions stay as they are.

    Raises:
        ModuleNotFoundError: the packages of the extra `export` are missing.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 (torch.onnx imports it, and says less when it is missing)
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Exporting to ONNX needs {error.name}: pip install 'slicer-lite[export]'.", name=error.name
        ) from None
    with _quiet("torch.onnx"), _quiet(None):
        program = torch.onnx.export(
            to_program(encoder), dynamo=True, verbose=False, opset_version=OPSET,
            input_names=[_INPUT], output_names=[_OUTPUT],
        )  # fmt: skip
        assert program is not None
        model = program.model_proto
        onnx.helper.set_model_props(model, _about(encoder, int8))
        if int8:
            bands = {node.name for node in model.graph.node if "logmel.bands" in node.input}
            with tempfile.TemporaryDirectory() as folder:
                small = Path(folder) / "int8.onnx"
                # Unsigned, as their inputs are: with signed weights onnxruntime's sums of 16 bits overflow on x86
                # CPUs that have no VNNI.
                quantize_dynamic(
                    model, small, per_channel=True, weight_type=QuantType.QUInt8,
                    op_types_to_quantize=["MatMul", "Gemm"], nodes_to_exclude=sorted(bands),
                )  # fmt: skip
                model = onnx.load(small)
        onnx.checker.check_model(model, full_check=True)
    write_durably(path, model.SerializeToString())


def _about(encoder: FrameEncoder, int8: bool) -> dict[str, str]:
    return {
        "made_by": f"slicer-lite {slicer_lite.__version__}",
        "input": f"(batch, samples) float32 waveforms in [-1, 1] at {SAMPLE_RATE} Hz, mono, any length",
        "output": f"(batch, {encoder.dim}) float32 embeddings",
        "sample_rate": str(SAMPLE_RATE),
        "precision": "linear layers int8" if int8 else "float32",
    }


@contextmanager
def _quiet(name: str | None) -> Iterator[None]:
    """No remarks of a library for the time of a call; errors are still raised."""
    logger: Any = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
