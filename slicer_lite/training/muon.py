"""Muon: every matrix moves by the orthogonal matrix nearest to its momentum, so that no direction lags behind.

K. Jordan and others, Muon: an optimizer for hidden layers in neural networks, kellerjordan.github.io/posts/muon,
2024; the size of a step is that of Liu and others, Muon is scalable for LLM training, arXiv 2502.16982.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95  # as published
_POLYNOMIAL = 3.4445, -4.7750, 2.0315  # of a Newton-Schulz iteration, as published
_ITERATIONS = 5  # as published


class Muon(torch.optim.AdamW):
    """Muon for matrices, AdamW for vectors (biases, batch norms).

    A convolution's filters are the rows of a matrix. Every matrix is taken, the first convolution and the last layers
    of the heads included [ours]: as published, Muon is for hidden layers, and AdamW for the first and the last.
    (PyTorch 2.8 has no `torch.optim.Muon`, and that of later versions takes neither convolutions nor a learning rate
    that changes while a CUDA graph is replayed.)

    Arguments are those of AdamW; of them, matrices obey `lr` and `weight_decay` alone. A number of a matrix moves by
    0.2 times the learning rate (root mean square), which is about what AdamW does (arXiv 2502.16982).
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move all weights that have a gradient. The gradients of matrices are used up."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.ndim > 1 and weight.grad is not None:
                    self._move(weight, group["lr"], group["weight_decay"])
                    weight.grad = None  # nothing is left for AdamW
        super().step()
        return loss

    def _move(self, weight: nn.Parameter, rate: float | Tensor, decay: float) -> None:
        state = self.state[weight]
        if not state:
            # Not used: AdamW looks for it in all that it loads.
            state["step"] = torch.zeros((), device=weight.device)
            state["momentum"] = torch.zeros_like(weight)
        gradient = cast(Tensor, weight.grad)
        momentum = state["momentum"].mul_(_MOMENTUM).add_(gradient)
        direction = orthogonal((gradient + _MOMENTUM * momentum).flatten(1))  # Nesterov's
        size = 0.2 * max(direction.shape) ** 0.5
        weight.mul_(1 - rate * decay).sub_(direction.view_as(weight) * (rate * size))


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest matrix with orthogonal rows, or columns if there are fewer of them: `(M, N)` -> `(M, N)`.

    Singular values of at least a 600th of the matrix's norm (the root of the sum of its squares) become 0.68 to 1.21,
    smaller ones grow 485-fold at the most; a gradient needs no more.
    """
    a, b, c = _POLYNOMIAL
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / (x.norm() + 1e-7)
    if matrix.is_cuda:
        x = x.bfloat16()  # as published
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x if matrix.shape[0] <= matrix.shape[1] else x.T).to(matrix.dtype)
