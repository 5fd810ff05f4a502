"""Sounds made from mixtures have the levels, gains and spectra that they should have."""

import math

import numpy as np
import pytest
import torch

import slicer_lite as sl
from slicer_lite.explore.resynthesis import invert, miss_db, mix_waveforms, scale_bands
from slicer_lite.method.kmix import mix

RATE, SAMPLES = 16_000, 15_200
LOW, HIGH = 500.0, 3000.0  # Hz: whole periods in 15,200 samples, and no band in common


def tone(frequency, level=0.3):
    return (level * torch.sin(2 * math.pi * frequency * torch.arange(SAMPLES) / RATE)).float()


def noise(seed, level=0.1):
    return level * torch.randn(SAMPLES, generator=torch.Generator().manual_seed(seed))


def logmel(waveform):
    return sl.LogMel()(waveform[None])[0, 0]


def amplitude(waveform, frequency):
    """Of the sine of that frequency, away from the ends."""
    middle = waveform[1600:-1600].double()  # 12,000 samples: whole periods of 500 and 3000 Hz
    angle = 2 * math.pi * frequency * torch.arange(len(middle), dtype=torch.float64) / RATE
    return 2 * math.hypot(*((middle * f(angle)).mean().item() for f in (torch.cos, torch.sin)))


@pytest.mark.parametrize("a", [0.0, 0.1, 0.4, 1.0])
def test_the_gains_share_the_power(a):
    both = mix_waveforms(tone(LOW, 0.4), tone(HIGH, 0.2), a)
    assert amplitude(both, LOW) == pytest.approx(0.4 * math.sqrt(1 - a), abs=1e-5)
    assert amplitude(both, HIGH) == pytest.approx(0.2 * math.sqrt(a), abs=1e-5)
    power = (1 - a) * 0.4**2 / 2 + a * 0.2**2 / 2
    assert both.square().mean().item() == pytest.approx(power, rel=1e-4)


def test_sounds_apart_in_frequency_mix_as_their_powers_do():
    x, z, a = tone(LOW), tone(HIGH), 0.3
    expected = mix(logmel(x)[None], logmel(z)[None], torch.tensor([a]))[0]
    loud = expected[:, 8:-8] > expected.max() - 6  # 26 dB; away from the ends, where a cut tone is broad
    difference = (logmel(mix_waveforms(x, z, a)) - expected)[:, 8:-8][loud]
    assert difference.abs().max() < 1e-3


@pytest.mark.parametrize("sign", [1, -1])
def test_cross_terms_are_what_the_sum_of_equal_sounds_has_beyond_its_powers(sign):
    x, a = noise(0), 0.2
    expected = mix(logmel(x)[None], logmel(sign * x)[None], torch.tensor([a]))[0]
    torch.testing.assert_close(expected, logmel(x))  # of powers there is as much as before
    cross = math.log(1 + sign * 2 * math.sqrt(a * (1 - a)))  # in phase 2.6 dB more, out of phase 7.0 dB less
    found = logmel(mix_waveforms(x, sign * x, a)) - expected
    assert found.median().item() == pytest.approx(cross, abs=1e-3)


def test_cross_terms_of_unrelated_sounds_cancel_on_average_but_not_cell_by_cell():
    x, z, a = noise(0), noise(1), 0.4
    expected = mix(logmel(x)[None], logmel(z)[None], torch.tensor([a]))[0]
    found = logmel(mix_waveforms(x, z, a))
    assert found.exp().mean().item() == pytest.approx(expected.exp().mean().item(), rel=0.03)
    assert miss_db(mix_waveforms(x, z, a), expected) > 0.5


def test_standardised_mixing_can_be_computed_from_plain_log_mels():
    x, z, a = logmel(noise(0))[None], logmel(tone(LOW))[None], torch.tensor([0.3])
    mean, deviation = -5.0, 3.0
    standardised = mix((x - mean) / deviation, (z - mean) / deviation, a)
    torch.testing.assert_close(
        mix(x, z, a, 1 / deviation), mean + deviation * standardised, atol=1e-4, rtol=0
    )


def test_scaling_to_its_own_log_mel_changes_nothing():
    sound = tone(LOW) + noise(2, 0.01)
    kept = scale_bands(sound, logmel(sound))
    assert amplitude(kept, LOW) == pytest.approx(amplitude(sound, LOW), rel=1e-3)
    assert miss_db(kept, logmel(sound)) < 0.1


def test_scaling_applies_each_bands_gain():
    sound = tone(LOW, 0.4) + tone(HIGH, 0.2)
    wanted = logmel(sound).clone()
    wanted[32:] -= 2 * math.log(10)  # power / 100: the high tone at a tenth of its amplitude
    scaled = scale_bands(sound, wanted)
    assert amplitude(scaled, LOW) == pytest.approx(0.4, rel=0.01)
    assert amplitude(scaled, HIGH) == pytest.approx(0.02, rel=0.01)


def test_what_no_band_covers_is_silenced():
    sound = tone(LOW, 0.2) + tone(7950.0, 0.2)
    assert amplitude(scale_bands(sound, logmel(sound)), 7950.0) < 0.002


def test_a_standardised_mixture_can_be_heard_as_it_is_received():
    x, z = noise(0, 0.2), tone(LOW) + noise(3, 0.003)
    wanted = mix(logmel(x)[None], logmel(z)[None], torch.tensor([0.4]), scale=1 / 3)[0]
    added = mix_waveforms(x, z, 0.4)
    assert miss_db(added, wanted) > 1.5  # no sum of sounds has this log-mel
    assert miss_db(scale_bands(added, wanted), wanted) < 0.6


def test_a_log_mel_of_another_length_is_refused():
    with pytest.raises(ValueError, match="64 x 96, got one of"):
        scale_bands(tone(LOW), torch.zeros(64, 95))


def test_inversion_keeps_pitch_and_level_and_repeats_itself():
    wanted = logmel(tone(LOW, 0.3))
    sound = invert(wanted)
    assert sound.shape == (SAMPLES,)
    spectrum = np.abs(np.fft.rfft(sound.numpy() * np.hanning(SAMPLES)))
    assert abs(spectrum.argmax() * RATE / SAMPLES - LOW) < 20  # a band is 45 Hz wide there
    level = 10 * math.log10(sound.square().mean() / (0.3**2 / 2))
    assert abs(level) < 1.5  # dB
    assert torch.equal(sound, invert(wanted))


def test_inversion_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    invert(logmel(tone(LOW)))
    assert torch.equal(torch.rand(1), expected)


def test_silence_stays_silence():
    silent = torch.zeros(SAMPLES)
    for sound in (scale_bands(silent, logmel(silent)), invert(logmel(silent))):
        assert sound.abs().max() < 1e-4


def test_the_miss_is_in_decibels():
    sound = noise(0)
    assert miss_db(sound, logmel(sound) + 3 * math.log(10) / 10) == pytest.approx(3, abs=1e-3)
