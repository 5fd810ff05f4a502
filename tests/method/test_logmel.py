"""Log-mel: shapes, a tone where it belongs, and the plain way to compute it."""

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given
from hypothesis import strategies as st

from slicer_lite.method.logmel import LogMel


@given(clips=st.integers(1, 20), samples=st.integers(600, 20_000))
def test_agrees_with_torchaudio(clips, samples):
    torch.manual_seed(samples)
    wave = 0.1 * torch.randn(clips, samples)
    plain = torchaudio.transforms.MelSpectrogram(
        16_000, 1024, hop_length=160, f_min=60, f_max=7800, n_mels=64, norm="slaney", mel_scale="slaney"
    )(wave)
    expected = (plain + torch.finfo(torch.float32).eps).log()[:, None]
    ours = LogMel()(wave)
    assert ours.shape == (clips, 1, 64, samples // 160 + 1)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)


def test_a_window_has_96_frames():
    assert LogMel()(torch.zeros(1, 15_200)).shape == (1, 1, 64, 96)


def test_silence_is_the_floor():
    assert LogMel()(torch.zeros(1, 15_200)).unique().item() == pytest.approx(np.log(1.1920929e-07), abs=1e-6)


def test_a_louder_tone_is_higher_by_its_decibels_and_peaks_in_its_band():
    time = torch.arange(15_200) / 16_000
    tone = torch.sin(2 * torch.pi * 1000 * time)[None]
    loud, soft = LogMel()(tone), LogMel()(0.1 * tone)
    band = loud.mean(-1).argmax().item()
    assert (loud - soft)[0, 0, band].mean().item() == pytest.approx(np.log(100), abs=1e-3)
    centre = torchaudio.functional.melscale_fbanks(513, 60, 7800, 64, 16_000, "slaney", "slaney")[:, band]
    assert abs(centre.argmax().item() * 16_000 / 1024 - 1000) < 40


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (torch.zeros(15_200), r"shape \(B, S\)"),
        (torch.zeros(1, 500), "too short"),
        (torch.zeros(1, 15_200, dtype=torch.int16), "float waveforms"),
    ],
)
def test_wrong_waveforms_are_refused(wave, message):
    with pytest.raises(ValueError, match=message):
        LogMel()(wave)
