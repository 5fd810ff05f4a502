"""From a waveform to the picture that the encoder reads: a log-mel spectrogram."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slicer_lite.base.shapes import Float
from slicer_lite.config import F_MAX, F_MIN, FRAMES, HOP, N_FFT, N_MELS, SAMPLE_RATE

FLOOR = torch.finfo(torch.float32).eps  # 1.19e-7, added before the logarithm [R]
_CHUNK = 8  # clips at once: their frames stay in the processor's cache (measured: 2x a whole batch)
_BLOCK = 32  # samples: the largest block of which a frame and a hop are both multiples


class LogMel(nn.Module):
    """Natural logarithm of a power mel spectrogram.

    FFT 1024, hop 160 (10 ms), Hann window, centred frames with reflected edges, 64 bands from 60 to 7800 Hz on
    the Slaney scale with Slaney's area normalisation, `log(mel + 1.19e-7)` [R].

    Shape: `(B, S)` float waveforms in [-1, 1] at 16 kHz -> `(B, 1, 64, S // 160 + 1)`.
    """

    window: Tensor
    bands: Tensor

    def __init__(self) -> None:
        super().__init__()
        import torchaudio.functional  # here, so that `slicer-lite doctor` can say what is wrong with it

        bands = torchaudio.functional.melscale_fbanks(
            N_FFT // 2 + 1, F_MIN, F_MAX, N_MELS, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)
        self.register_buffer("bands", bands, persistent=False)  # (513, 64)

    @torch.no_grad()
    def forward(self, waveform: Float[Tensor, "B S"]) -> Float[Tensor, "B 1 64 S//160+1"]:
        if waveform.ndim != 2:
            raise ValueError(f"LogMel takes waveforms of shape (B, S), got {tuple(waveform.shape)}.")
        if waveform.shape[1] <= N_FFT // 2:
            raise ValueError(
                f"A waveform of {waveform.shape[1]} samples is too short for a spectrogram frame: "
                f"pad it to more than {N_FFT // 2} samples."
            )
        if not waveform.is_floating_point():
            raise ValueError(f"LogMel takes float waveforms in [-1, 1], got {waveform.dtype}.")
        chunks = waveform.split(_CHUNK if waveform.device.type == "cpu" else len(waveform) or 1)
        return torch.cat([self._spectrogram(chunk) for chunk in chunks])

    def windows(self, waveform: Float[Tensor, "N S"]) -> Float[Tensor, "N 1 64 T"]:
        """The same of whole windows, `(N, 15200)` -> `(N, 1, 64, 96)`, for export.

        Frames and windows alike begin at multiples of 32 samples, so frames are gathered from blocks of 32: the
        table of places in an exported file is then a thirtieth of what `unfold` puts there.
        """
        blocks = _padded(waveform).unflatten(1, (-1, _BLOCK))  # (N, 507, 32)
        hops, rows = (torch.arange(n, device=waveform.device) for n in (FRAMES, N_FFT // _BLOCK))
        frames = blocks[:, HOP // _BLOCK * hops[:, None] + rows].flatten(2)  # (N, 96, 1024)
        return self._log_mel(frames)

    def _spectrogram(self, waveform: Tensor) -> Tensor:
        return self._log_mel(_padded(waveform.float()).unfold(1, N_FFT, HOP))  # (B, T, 1024) frames

    def _log_mel(self, frames: Tensor) -> Tensor:
        # Half precision has too few digits for the quiet bands, so autocast is off here.
        with torch.autocast(frames.device.type, enabled=False):
            spectrum = torch.view_as_real(torch.fft.rfft(frames.float() * self.window))
            real, imaginary = spectrum.unbind(-1)  # (B, T, 513) each
            power = torch.addcmul(real.square(), imaginary, imaginary)
            mel = power @ self.bands  # (B, T, 64)
            return mel.add_(FLOOR).log_().transpose(1, 2).unsqueeze(1)  # (B, 1, 64, T)


def _padded(waveform: Tensor) -> Tensor:
    return nn.functional.pad(waveform, (N_FFT // 2, N_FFT // 2), mode="reflect")
