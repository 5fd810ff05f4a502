"""Exported encoders: they say what PyTorch says, for every length, and need nothing of ours."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from networks import Bands

import slicer_lite as sl
from slicer_lite.cli import main
from slicer_lite.explore.embed import Embedder
from slicer_lite.lape import save_lape
from slicer_lite.method.logmel import LogMel
from slicer_lite.method.slicer import SLICERNetwork
from slicer_lite.share import export
from slicer_lite.share.weights import Pretrained, save_weights

LENGTHS = [1, 512, 15_199, 15_200, 15_201, 30_399, 30_400, 45_601, 60_807, 100_000]
RATE = 16_000


def clip(samples):
    rng = np.random.default_rng(samples)
    return (rng.uniform(-1, 1, samples) * np.linspace(0.001, 0.5, samples)).astype(np.float32)


@pytest.fixture(scope="module")
def pretrained():
    torch.manual_seed(0)
    config = sl.preset("tiny", channels=8, dim=32, clusters=6)
    network = SLICERNetwork(config).eval().requires_grad_(False)
    network.encoder.mean.fill_(-6.5)
    network.encoder.deviation.fill_(4.25)
    for block in network.encoder.features:
        block[1].running_mean.uniform_(-0.2, 0.2)
        block[1].running_var.uniform_(0.5, 2)
    return Pretrained(network, torch.randn(4, 64), config, 9)


@pytest.fixture(scope="module")
def expected(pretrained):
    return {samples: sl.embed(pretrained.encoder, [clip(samples)]) for samples in LENGTHS}


@pytest.mark.parametrize("samples", LENGTHS)
def test_the_module_is_the_function(pretrained, expected, samples):
    waveform = torch.from_numpy(clip(samples))[None]
    ours = Embedder(pretrained.encoder).eval()(torch.cat([waveform, waveform]))
    np.testing.assert_allclose(ours.numpy(), np.repeat(expected[samples], 2, axis=0), rtol=0, atol=1e-5)


def test_frames_of_blocks_are_frames():
    waveform = torch.rand(2, 15_200) - 0.5
    assert torch.equal(LogMel().windows(waveform), LogMel()(waveform))


def test_the_module_reads_sound_in_single_precision_also_under_autocast(pretrained):
    loud = 0.9 * torch.sign(torch.sin(torch.arange(15_200) / 2))[None]  # its power is beyond half precision
    plain = LogMel().windows(loud)
    for kind in (torch.float16, torch.bfloat16):
        with torch.autocast("cpu", kind):
            assert torch.equal(LogMel().windows(loud), plain)
    module = Embedder(pretrained.encoder).eval()
    torch.testing.assert_close(module(loud.double()), module(loud), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def onnx_files(pretrained, tmp_path_factory):
    pytest.importorskip("onnxscript", reason="needs the extra `export`")
    pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    folder = tmp_path_factory.mktemp("onnx")
    export.save_onnx(pretrained.encoder, folder / "plain.onnx")
    export.save_onnx(pretrained.encoder, folder / "int8.onnx", int8=True)
    return folder


@pytest.mark.slow
def test_onnx_agrees_for_every_length(onnx_files, expected):
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_files / "plain.onnx")
    for samples, wanted in expected.items():
        for clips in (1, 3):
            found = session.run(None, {"waveform": np.repeat(clip(samples)[None], clips, axis=0)})[0]
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, np.repeat(wanted, clips, axis=0), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_int8_is_smaller_and_near(onnx_files, expected):
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_files / "int8.onnx")
    for samples, wanted in expected.items():
        found = session.run(None, {"waveform": clip(samples)[None]})[0]
        assert 0 < np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()
    assert (onnx_files / "int8.onnx").stat().st_size < (onnx_files / "plain.onnx").stat().st_size
    about = session.get_modelmeta().custom_metadata_map
    assert (about["sample_rate"], about["precision"]) == (str(RATE), "linear layers int8")


@pytest.mark.slow
def test_a_program_runs_without_this_package(pretrained, expected, tmp_path):
    export.save_program(pretrained.encoder, tmp_path / "m.pt2")
    np.savez(tmp_path / "clips.npz", **{str(n): clip(n) for n in LENGTHS})
    code = (
        "import sys; sys.modules['slicer_lite'] = None\n"
        "import numpy, torch\n"
        "model = torch.export.load('m.pt2').module()\n"
        "clips = numpy.load('clips.npz')\n"
        "numpy.savez('out.npz', **{n: model(torch.from_numpy(clips[n])[None]).numpy() for n in clips})\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=300)
    with np.load(tmp_path / "out.npz") as found:
        for samples, wanted in expected.items():
            np.testing.assert_allclose(found[str(samples)], wanted, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_exporting_leaves_the_encoder_as_it_was(pretrained):
    encoder = sl.Encoder(channels=4, dim=8).train()
    layout = encoder.features[1][0].weight.is_contiguous(memory_format=torch.channels_last)
    export.to_program(encoder)
    assert encoder.training
    assert encoder.features[1][0].weight.is_contiguous(memory_format=torch.channels_last) == layout


def test_a_network_that_cannot_be_followed_is_named():
    class Reading(Bands):
        def forward(self, lms):
            frames = super().forward(lms)
            return frames if lms.amax().item() > 0 else -frames

    with pytest.raises(
        ValueError, match="encoder: Reading cannot be exported, since torch.export cannot follow"
    ):
        export.to_program(sl.as_encoder(Reading))


def test_the_command_comes_and_goes(pretrained, tmp_path, capsys):
    """weights -> LAPE's names -> weights: the same bytes."""
    here, there, back = (tmp_path / name for name in ("a.safetensors", "b.ckpt", "c.safetensors"))
    pretrained.encoder.features[0][1].num_batches_tracked.fill_(2000)  # as training leaves it
    save_weights(here, pretrained.network, pretrained.centroids, pretrained.config, pretrained.step)
    main(["export", "--weights", str(here), "--out", str(there)])
    main(["export", "--weights", str(there), "--out", str(back)])
    assert back.read_bytes() == here.read_bytes()
    assert str(back) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "model.tflite"], "must end in .onnx or"),
        (["--out", "model.pt2", "--int8"], "--int8 goes with .onnx only"),
        (["--out", "there.ckpt"], "is there already"),
    ],
)
def test_misuse_is_explained(pretrained, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    save_lape(pretrained, "there.ckpt")
    with pytest.raises(SystemExit) as ended:
        main(["export", "--weights", "there.ckpt", *arguments])
    assert ended.value.code == 1
    assert message in capsys.readouterr().err


def test_the_command_writes_onnx_or_names_the_remedy(pretrained, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    save_lape(pretrained, tmp_path / "m.ckpt")
    with pytest.raises(SystemExit):
        main(["export", "--weights", str(tmp_path / "m.ckpt"), "--out", str(tmp_path / "m.onnx")])
    assert "pip install 'slicer-lite[export]'" in capsys.readouterr().err
    assert not (tmp_path / "m.onnx").exists()


def test_files_of_lape_are_told_apart_from_ours(pretrained, tmp_path, capsys):
    save_lape(pretrained, tmp_path / "m.pt")
    with pytest.raises(SystemExit):
        main(["embed", "--weights", str(tmp_path / "m.pt"), "--data", "sounds", "--out", str(tmp_path / "e")])
    assert (
        f"slicer-lite export --weights {tmp_path / 'm.pt'} --out NAME.safetensors" in capsys.readouterr().err
    )
    main(["export", "--weights", str(tmp_path / "m.pt"), "--out", str(tmp_path / "m.safetensors")])
    assert sl.load(tmp_path / "m.safetensors").step == pretrained.step
