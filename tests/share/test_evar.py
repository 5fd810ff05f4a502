"""The plug for EVAR, against a stub of its sequence of calls."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import slicer_lite as sl
from slicer_lite.method.slicer import SLICERNetwork
from slicer_lite.share import evar
from slicer_lite.share.weights import save_weights

yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra `hub`")
DOCS = Path(__file__).parents[2] / "docs" / "evar.md"


class Settings(dict):
    """As EVAR's: entries are attributes too."""

    __getattr__ = dict.__getitem__


@pytest.fixture
def settings(tmp_path):
    config = sl.preset("tiny", channels=4, dim=16)
    save_weights(tmp_path / "weights.safetensors", SLICERNetwork(config), None, config, 1)
    (text,) = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return Settings(yaml.safe_load(text), weight_file=str(tmp_path / "weights.safetensors"))


def evaluation(cfg, loader):
    """What EVAR's linear evaluation does until it has embeddings."""
    device = torch.device("cpu")
    representation = getattr(evar, cfg.audio_repr.partition(".")[2])(cfg).to(device)
    representation.precompute(device, loader)
    # Where there is a GPU, DataParallel is for GPUs alone.
    wrapped = (
        representation if torch.cuda.is_available() else torch.nn.DataParallel(representation).to(device)
    )
    wrapped.eval()
    with torch.no_grad():
        return torch.vstack([wrapped(batch.to(device)).detach().cpu() for batch, _ in loader]).numpy()


@pytest.mark.parametrize("seconds", [0.5, 0.95, 4.0])
def test_its_sequence_of_calls_gives_our_embeddings(settings, seconds):
    clips = torch.rand(5, int(16_000 * seconds)) - 0.5
    loader = [(clips[:3], torch.zeros(3)), (clips[3:], torch.zeros(2))]
    expected = sl.embed(sl.load_encoder(settings.weight_file), list(clips.numpy()))
    np.testing.assert_allclose(evaluation(settings, loader), expected, rtol=1e-4, atol=1e-5)


def test_frames_are_embeddings_by_time(settings):
    model = evar.AR_SLICER(settings).eval()
    with torch.no_grad():
        assert model.encode_frames(torch.zeros(2, 15_200)).shape == (2, 16, 12)
        assert model.encode_frames(torch.zeros(2, 32_000)).shape == (2, 16, 24)


def test_another_sample_rate_is_refused(settings):
    with pytest.raises(ValueError, match="sample_rate: 22050"):
        evar.AR_SLICER(Settings(settings, sample_rate=22_050))
