"""One linear layer, trained to the optimum: logistic regression on more windows than fit in memory.

Objective and solver are those of scikit-learn's `LogisticRegression(C)`, so that both agree; but the sums over
windows are computed by PyTorch on any device, piece by piece. The same features give the same layer each time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

_PIECE = 16_384  # windows at once
_HELD = 2**30  # bytes of standardised features that stay on the device; more are read anew in each iteration
_ITERATIONS = 300


class Windows:
    """Some of the rows of features `(W, D)`, standardised, on a device, a piece at a time.

    Args:
        features: `(W, D)`, perhaps memory-mapped.
        rows: which of them, in rising order.
        device: where the pieces go.
        like: other windows, whose mean and deviation are used; by default these windows' own.

    Raises:
        ValueError: features that are not finite.
    """

    def __init__(
        self, features: np.ndarray, rows: np.ndarray, device: torch.device, like: Windows | None = None
    ):
        self.features, self.rows, self.device = features, rows, device
        if like is None:
            self.mean, self.deviation = self._statistics()
        else:
            self.mean, self.deviation = like.mean, like.deviation
        small = len(rows) * features.shape[1] * 4 <= _HELD
        self._held = list(self._read()) if small else None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Tensor]:
        yield from self._read() if self._held is None else self._held

    def _read(self) -> Iterator[Tensor]:
        for begin in range(0, len(self.rows), _PIECE):
            piece = (self.features[self.rows[begin : begin + _PIECE]] - self.mean) / self.deviation
            if not np.isfinite(piece).all():
                raise ValueError("Features must be finite: some are NaN or infinite.")
            yield torch.from_numpy(piece.astype(np.float32)).to(self.device)

    def _statistics(self) -> tuple[np.ndarray, np.ndarray]:
        total = squares = np.zeros(self.features.shape[1])
        for begin in range(0, len(self.rows), _PIECE):
            piece = self.features[self.rows[begin : begin + _PIECE]].astype(np.float64)
            total = total + piece.sum(0)
            squares = squares + np.square(piece).sum(0)
        mean = total / len(self.rows)
        deviation = np.sqrt(np.maximum(squares / len(self.rows) - mean**2, 0))
        # Less than that is the rounding of a feature that never changes.
        return mean, np.where(deviation > 1e-6 * np.abs(mean) + 1e-12, deviation, 1.0)


class LinearLayer:
    """`logits = x @ weight.T + bias` with `weight` `(K, D)` and `bias` `(K,)`, which start at zero."""

    def __init__(self, classes: int, dim: int):
        self.weight, self.bias = np.zeros((classes, dim)), np.zeros(classes)

    def fit(self, windows: Windows, y: np.ndarray, c: float) -> LinearLayer:
        """Minimise the mean cross-entropy plus `|weight|^2 / (2 C W)`, from the present weights on.

        (Of two classes: plus twice that.)

        Args:
            windows: W windows.
            y: `(W,)` class numbers below K.
            c: inverse regularisation, scikit-learn's C.
        """
        count, shape = len(windows), self.weight.shape
        if len(self.bias) == 2:
            # Scikit-learn then regularises one row, the difference of our two, whose squares add up to half of its.
            c /= 2
        target = torch.from_numpy(y).to(windows.device)

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weight, bias = flat[: self.weight.size].reshape(shape), flat[self.weight.size :]
            w, b = (torch.from_numpy(v).to(windows.device, torch.float32) for v in (weight, bias))
            loss, gradient = 0.0, np.zeros(len(flat))
            for piece, true in zip(windows, target.split(_PIECE), strict=True):
                log_p = (piece @ w.T + b).log_softmax(1)  # (B, K)
                loss -= log_p.gather(1, true[:, None]).sum().item()
                residual = log_p.exp().scatter_add_(1, true[:, None], torch.full_like(log_p[:, :1], -1.0))
                gradient += torch.cat([(residual.T @ piece).flatten(), residual.sum(0)]).cpu().numpy()
            gradient[: weight.size] += weight.ravel() / c
            return (loss + (weight**2).sum() / (2 * c)) / count, gradient / count

        start = np.concatenate([self.weight.ravel(), self.bias])
        settings = {"maxiter": _ITERATIONS, "maxls": 50, "gtol": 1e-4}
        optimum = minimize(objective, start, jac=True, method="L-BFGS-B", options=settings).x
        self.weight, self.bias = optimum[: self.weight.size].reshape(shape), optimum[self.weight.size :]
        return self

    def logits(self, windows: Windows) -> np.ndarray:
        """`(W, K)`, before the softmax."""
        w, b = (torch.from_numpy(v).to(windows.device, torch.float32) for v in (self.weight, self.bias))
        return np.concatenate([(piece @ w.T + b).cpu().numpy() for piece in windows])
