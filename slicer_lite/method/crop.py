"""Random resize crop: a small shift and stretch in pitch and time [B].

The 64 x 96 input lies in the middle of a wider canvas of zeros; a random box of the canvas is resized back to
64 x 96. After standardisation the zeros are the data set's mean level, not silence.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slicer_lite.base.shapes import Float, Int
from slicer_lite.config import FRAMES, N_MELS

_A = -0.75  # the bicubic kernel's parameter, as in PyTorch's and OpenCV's 'bicubic'


class RandomResizeCrop(nn.Module):
    """Draws boxes and resizes them back to the input's size.

    Args:
        smallest, largest: height and width of the box as shares of the input's, uniform between them
            (0.6 and 1.5 [B]). `largest` is also the width of the canvas, so the canvas is 64 x 144: no taller
            than the input, so frequency is only ever magnified, while time is stretched or squeezed.
    """

    def __init__(self, smallest: float = 0.6, largest: float = 1.5, size: tuple[int, int] = (N_MELS, FRAMES)):
        super().__init__()
        if not 0 < smallest <= 1 <= largest:
            raise ValueError(
                f"smallest = {smallest}, largest = {largest}: they must be above 0 and at most 1, and at least 1."
            )
        self.smallest, self.largest = smallest, largest
        self.height, self.width = size
        self.canvas_width = int(self.width * largest)
        self.left = (self.canvas_width - self.width) // 2  # where the input begins on the canvas

    def boxes(self, count: int, generator: torch.Generator | None = None) -> Int[Tensor, "{count} 4"]:
        """`(count, 4)` whole numbers: top, left, height, width on the canvas. Sizes are truncated to bins."""
        u = torch.rand(4, count, generator=generator)
        scale = self.smallest + (self.largest - self.smallest) * u[:2]
        height = (scale[0] * self.height).long().clamp(1, self.height)
        width = (scale[1] * self.width).long().clamp(1, self.canvas_width)
        top = (u[2] * (self.height - height + 1)).long().clamp(max=self.height - 1)
        left = (u[3] * (self.canvas_width - width + 1)).long().clamp(max=self.canvas_width - 1)
        return torch.stack([top, left, height, width], dim=1)

    def apply(  # type: ignore[override]
        self, lms: Float[Tensor, "B 1 F T"], boxes: Int[Tensor, "B 4"]
    ) -> Float[Tensor, "B 1 F T"]:
        """Cut each clip's box out of its canvas and resize it: `(B, 1, F, T)`, `(B, 4)` -> `(B, 1, F, T)`.

        Bicubic interpolation is linear in the picture, so a resize is two small matrix products a clip:
        row weights x input x column weights, exactly what a per-clip `interpolate` computes, at a fraction of
        its time (the columns that fall on the canvas's zeros are left out).
        """
        if lms.shape[-2:] != (self.height, self.width):
            raise ValueError(
                f"The crop takes inputs of {self.height} x {self.width}, got {tuple(lms.shape)}."
            )
        top, left, height, width = boxes.to(lms.device).unbind(1)
        rows = _bicubic_weights(top, height, self.height, self.height)  # (B, F out, F in)
        columns = _bicubic_weights(left, width, self.width, self.canvas_width)  # (B, T out, canvas)
        columns = columns[:, :, self.left : self.left + self.width]  # (B, T out, T in)
        return (rows @ lms.squeeze(1).float() @ columns.transpose(1, 2)).unsqueeze(1)

    def forward(
        self, lms: Float[Tensor, "B 1 F T"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "B 1 F T"]:
        """Crop every clip with a box of its own: `(B, 1, F, T)` -> `(B, 1, F, T)`."""
        return self.apply(lms, self.boxes(len(lms), generator))


def _bicubic_weights(start: Tensor, length: Tensor, size_out: int, size_in: int) -> Tensor:
    """`(B, size_out, size_in)` weights that resize `[start, start + length)` of an axis to `size_out` points.

    Corners are aligned: the first and last output points lie on the box's first and last bins. Neighbours
    beyond the box are its edge bins.
    """
    steps = torch.arange(size_out, device=start.device, dtype=torch.float32)
    position = steps * ((length - 1).float() / max(size_out - 1, 1)).unsqueeze(1)  # (B, size_out), in the box
    first = position.floor()
    t = (position - first).unsqueeze(-1)  # (B, size_out, 1)
    offset = torch.arange(-1.0, 3.0, device=start.device)  # the four neighbours
    distance = (t - offset).abs()  # (B, size_out, 4), in bins
    near = ((_A + 2) * distance - (_A + 3)) * distance * distance + 1  # within one bin
    far = ((_A * distance - 5 * _A) * distance + 8 * _A) * distance - 4 * _A  # within two
    weight = torch.where(distance <= 1, near, far)
    bin_ = (first.unsqueeze(-1) + offset).clamp(min=0)
    bin_ = torch.minimum(bin_, (length - 1).float()[:, None, None]) + start[:, None, None]
    weights = torch.zeros(len(start), size_out, size_in, device=start.device)
    return weights.scatter_add_(2, bin_.long(), weight)
