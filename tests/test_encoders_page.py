"""docs/encoders.md, run from its first line to its last: a network of torchaudio's behind everything."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import slicer_lite as sl

PAGE = (Path(__file__).parents[1] / "docs" / "encoders.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(TRAINING,) = [number for number, block in enumerate(BLOCKS) if "sl.pretrain(" in block]


def run(numbers, tones, **names):
    """What the page's blocks leave behind, on a small data set and for two steps."""
    for number in numbers:
        exec(BLOCKS[number].replace('"sounds"', repr(str(tones))).replace("steps=200", "steps=2"), names)
    return names


@pytest.mark.slow
def test_a_conformer_is_embedded_probed_exported_and_stamped(tones, tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    pytest.importorskip("onnxscript", reason="needs the extra `export`")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = run([number for number in range(len(BLOCKS)) if number != TRAINING], tones)
    clips, encoder, embeddings = names["clips"], names["encoder"], names["embeddings"]
    assert embeddings.shape == (len(clips), 64) and np.isfinite(embeddings).all()
    assert encoder.mean != 0
    assert set(names["found"]["results"]) == {"trained encoder", "untrained encoder"}
    assert names["found"]["about"]["weights"]["encoder"] == "Conformer"
    session = onnxruntime.InferenceSession("conformer.onnx")
    program = torch.export.load("conformer.pt2").module()
    for clip in range(3):
        waveform = clips[clip][None]
        expected = sl.embed(encoder, list(waveform))
        found = session.run(None, {"waveform": np.repeat(waveform, 2, axis=0)})[0]
        np.testing.assert_allclose(found, np.repeat(expected, 2, axis=0), rtol=0, atol=1e-4)
        np.testing.assert_allclose(program(torch.from_numpy(waveform)).numpy(), expected, rtol=0, atol=1e-4)
    assert names["stamped"].shape == (1, 101, 64)
    assert names["moments"][0].tolist() == [10.0 * number for number in range(101)]


@pytest.mark.skipif(
    "encoder" not in inspect.signature(sl.pretrain).parameters, reason="sl.pretrain takes no encoder yet"
)
def test_a_conformer_is_trained_and_loaded(tones, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run([0, TRAINING], tones)
    trained, again = names["trained"].encoder, names["encoder"]
    for name, value in trained.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert sl.embed(again, names["clips"]).shape == (len(names["clips"]), 64)
