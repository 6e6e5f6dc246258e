"""DAC's encoder in the order of memory that a CPU likes: the same sums as in transformers' `DacEncoder`.

There, half of the time goes into the Snake activations (five passes over tensors that fit no cache, each into fresh
memory) and oneDNN turns every tensor round before and after each convolution. Here the channels of a moment lie side by
side: a convolution is then a few products of matrices that need not be copied first, and an activation is compiled, one
pass that adds the bias of the convolution before it and leaves zeros where the next one looks beyond the ends. What a
residual unit adds is added by its last product. Imports torch: for family files only.
"""

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from transformers.models.dac.modeling_dac import DacEncoder, DacResidualUnit, Snake1d

_NARROW = 128
"""Channels up to which oneDNN's convolution is faster than products of matrices."""


class CpuDacEncoder(nn.Module):
    """`(B, 1, samples)` to `(B, D, T)`: what the given encoder gives, but for rounding.

    The encoder's weights are copied into another order; it is not kept.
    """

    def __init__(self, encoder: "DacEncoder") -> None:
        super().__init__()
        self.first = _Convolution(encoder.conv1)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "units": nn.ModuleList(map(_Unit, (block.res_unit1, block.res_unit2, block.res_unit3))),
                    "snake": _Snake(block.snake1),
                    "down": _Convolution(block.conv1),
                }
            )
            for block in encoder.block
        )
        self.snake = _Snake(encoder.snake1)
        self.last = _Convolution(encoder.conv2)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool:
            return torch.stack([self._frames(waveform, pool) for waveform in waveforms[:, 0]])

    def _frames(self, waveform: torch.Tensor, pool: Executor | None) -> torch.Tensor:
        """Of one clip, `(D, T)`; so it does not depend on those beside it."""
        padded = functional.pad(waveform, 2 * (self.first.padding,))
        # Without the biases, which are added where it is read.
        hidden, bias = padded.unfold(0, self.first.kernel, 1) @ self.first.matrices[:, 0], self.first.bias
        for block in self.blocks:
            for unit in block["units"]:
                bias = unit(hidden, bias, pool)
            down = block["down"]
            hidden, bias = down(block["snake"](hidden, bias, down.padding, pool)), down.bias
        return (self.last(self.snake(hidden, bias, self.last.padding, pool)) + self.last.bias).T


class _Unit(nn.Module):
    """A residual unit, in place: what it adds is added to `hidden`, and to the bias that it gives back."""

    def __init__(self, unit: "DacResidualUnit") -> None:
        super().__init__()
        self.wide, self.narrow = map(_Convolution, (unit.conv1, unit.conv2))
        self.snakes = nn.ModuleList(map(_Snake, (unit.snake1, unit.snake2)))

    def forward(self, hidden: torch.Tensor, bias: torch.Tensor, pool: Executor | None) -> torch.Tensor:
        first, second = self.snakes
        heard = second(self.wide(first(hidden, bias, self.wide.padding, pool)), self.wide.bias, 0, pool)
        hidden.addmm_(heard, self.narrow.matrices[0])
        return bias + self.narrow.bias


class _Snake(nn.Module):
    """x + sin(alpha x)^2 / alpha of `(T, C)` and a bias, between `padding` rows of zeros: `(T + 2 padding, C)`."""

    def __init__(self, snake: "Snake1d") -> None:
        super().__init__()
        self.register_buffer("alpha", snake.alpha.detach().flatten().clone())
        self.register_buffer("inverse", (self.alpha + 1e-9).reciprocal())

    def forward(self, hidden: torch.Tensor, bias: torch.Tensor, padding: int, pool: Executor | None) -> torch.Tensor:
        length, width = hidden.shape
        padded = hidden.new_empty(length + 2 * padding, width)
        padded[:padding] = 0
        padded[padding + length :] = 0
        run, each = _compiled(), (bias.numpy(), self.alpha.numpy(), self.inverse.numpy())
        given, made = hidden.numpy(), padded[padding : padding + length].numpy()
        if pool is None:
            run(given, *each, made)
            return padded
        size = max(1, -(-length // torch.get_num_threads()))
        shares = [slice(start, start + size) for start in range(0, length, size)]
        list(pool.map(lambda share: run(given[share], *each, made[share]), shares))
        return padded


class _Convolution(nn.Module):
    """`(T, C)`, padded, to `(T', C')`, without its bias.

    As products of matrices: `stride` taps that follow on each other meet as many rows that lie behind each other in
    memory, so that each such group of taps is one product, with every `stride`-th row from another one on.
    """

    def __init__(self, convolution: nn.Conv1d) -> None:
        super().__init__()
        (self.kernel,), (self.stride,), (self.padding,) = (
            convolution.kernel_size,
            convolution.stride,
            convolution.padding,
        )
        (self.dilation,) = convolution.dilation
        weight = convolution.weight.detach()
        self.register_buffer("bias", convolution.bias.detach().clone())
        self.register_buffer("matrices", None)
        self.register_buffer("image", None)
        if self.stride == 1 < self.kernel and 1 < weight.shape[1] <= _NARROW:
            self.image = weight[:, :, None].clone(memory_format=torch.channels_last)
        else:
            grouped = weight.permute(2, 1, 0).reshape(self.kernel // self.stride, -1, len(weight))
            self.matrices = grouped.clone(memory_format=torch.contiguous_format)

    def forward(self, padded: torch.Tensor) -> torch.Tensor:
        if self.image is not None:
            image = padded.T[None, :, None]  # in channels-last order as it lies
            return functional.conv2d(image, self.image, dilation=(1, self.dilation))[0, :, 0].T
        length, width = padded.shape
        count = (length - self.dilation * (self.kernel - 1) - 1) // self.stride + 1
        rows = padded[: length // self.stride * self.stride].reshape(-1, self.stride * width)
        output = torch.mm(rows[:count], self.matrices[0])
        for number, matrix in enumerate(self.matrices[1:], 1):
            output.addmm_(rows[number * self.dilation : number * self.dilation + count], matrix)
        return output


@cache
def _compiled() -> Callable[..., None]:
    """The activation; compiled at the first call, for this processor.

    Each row of `hidden` and the bias are x; sin(alpha x)^2 has the period pi, and within half a one of zero the sine is
    r times a polynomial in r^2, to 5e-9 of it.
    """
    from numba import float32, njit, void

    # At the points where a polynomial of this degree strays least.
    squares = (np.cos(np.pi * (np.arange(64) + 0.5) / 64) + 1) / 2 * (np.pi / 2) ** 2
    roots = np.sqrt(squares)
    c0, c1, c2, c3, c4 = np.polynomial.polynomial.polyfit(squares, np.sin(roots) / roots, 4).astype(np.float32)
    per, half = np.float32(1 / np.pi), np.float32(np.pi / 2)
    # Pi in three numbers, the first of so few digits that its multiples are exact.
    pi1 = np.float32(201 / 64)
    pi2 = np.float32(np.pi - 201 / 64)
    pi3 = np.float32(np.pi - 201 / 64 - float(pi2))
    rounding = np.float32(1.5 * 2**23)  # added and subtracted, it leaves a whole number

    @njit(
        void(float32[:, ::1], float32[::1], float32[::1], float32[::1], float32[:, ::1]),
        nogil=True,
        fastmath={"contract"},  # a * b + c in one operation; no other liberties
        error_model="numpy",
    )
    def run(hidden, bias, alpha, inverse, output):  # noqa: ANN001, ANN202
        rows, width = hidden.shape
        for row in range(rows):
            for channel in range(width):
                x = hidden[row, channel] + bias[channel]
                angle = x * alpha[channel]
                turns = (angle * per + rounding) - rounding
                rest = angle - turns * pi1 - turns * pi2 - turns * pi3
                # Only of angles in the millions could it be more; a float has no digits for them.
                rest = -half if rest < -half else rest
                rest = half if rest > half else rest
                square = rest * rest
                sine = rest * (c0 + square * (c1 + square * (c2 + square * (c3 + square * c4))))
                output[row, channel] = x + sine * sine * inverse[channel]

    return run
