"""What exporting costs: agreement with PyTorch, size, and probe accuracy in 8 bits. Writes results/export.json.

    python benchmarks/export.py [--steps 100] [--batch-size 64] [--run FOLDER] [--out FILE]

A short run of the tiny preset on the embedded sound world, exported; every clip embedded by PyTorch, by onnxruntime
and by onnxruntime with linear layers in 8 bits; every task probed with each. Nothing is chosen here, so the test
split is opened once. The run is kept, and a second call uses it again.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from measure import RESULTS, parser, write_report

import slicer_lite as sl
from slicer_lite.config import PRESETS
from slicer_lite.lape import evaluate
from slicer_lite.probe.evaluate import as_text
from slicer_lite.share.export import save_onnx, save_program


def main() -> None:
    options = parser(__doc__, steps=100, out=RESULTS / "export.json")
    options.add_argument("--batch-size", type=int, default=64)
    options.add_argument("--run", type=Path, default=Path("runs/export"))
    arguments = options.parse_args()
    clips = sl.load_clips("sounds")
    config = sl.preset("tiny", steps=arguments.steps, batch_size=arguments.batch_size)
    trained = sl.pretrain(config, clips, arguments.run, device="cpu")
    features = {"PyTorch": sl.embed(trained.encoder, clips)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for name, int8 in (("onnx", False), ("onnx, int8", True)):
            save_onnx(trained.encoder, path, int8)
            session = onnxruntime.InferenceSession(path)
            rows = [session.run(None, {"waveform": clips[i][None]})[0] for i in range(len(clips))]
            features[name] = np.concatenate(rows)
        sizes = {name: bytes_of(name, Path(folder)) for name in PRESETS}
    results = evaluate(trained, clips, given=features)
    print(as_text(results))
    reference = features["PyTorch"]
    write_report(
        arguments.out,
        "one encoder, exported: agreement with PyTorch, bytes of the files, linear-probe accuracy",
        config=config.to_dict(),
        clips={"number": len(clips), "fingerprint": clips.fingerprint()},
        bytes=sizes,
        largest_difference={name: float(np.abs(x - reference).max()) for name, x in features.items()},
        largest_embedding=float(np.abs(reference).max()),
        average=results["average"],
        tasks=results["tasks"],
        onnxruntime=onnxruntime.__version__,
    )


def bytes_of(preset: str, folder: Path) -> dict[str, int]:
    """Sizes of the files of a preset's encoder; its weights do not matter."""
    config = sl.preset(preset)
    encoder = sl.Encoder(channels=config.channels, dim=config.dim)
    save_program(encoder, folder / "size.pt2")
    save_onnx(encoder, folder / "size.onnx")
    save_onnx(encoder, folder / "size-int8.onnx", int8=True)
    names = {"pt2": "size.pt2", "onnx": "size.onnx", "onnx, int8": "size-int8.onnx"}
    return {kind: (folder / name).stat().st_size for kind, name in names.items()}


if __name__ == "__main__":
    main()
