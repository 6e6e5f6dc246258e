"""DAC's encoder in the order of memory that a CPU likes: the same sums as in transformers' `DacEncoder`.

There, half of the time goes into the Snake activations (five passes over tensors that fit no cache, each into fresh
memory) and oneDNN turns every tensor round before and after each convolution. Here the channels of a moment lie side by
side: a convolution is then a few products of matrices that need not be copied first, and an activation goes over one
piece of the signal after the other, each small enough for the cache. Imports torch: for family files only.
"""

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from transformers.models.dac.modeling_dac import DacEncoder, DacResidualUnit, Snake1d

_PIECE = 2**15 - 1
"""Numbers in one piece of an activation, in one thread: 128 KB."""

_SHARED_PIECE = 2**21
"""And where several threads share it. At each of three operations a piece they wait for each other, on a busy machine
long; so the pieces must be few. 8 MB are the widest activation of two seconds, beyond which memory need not grow."""

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
        padded = functional.pad(waveforms[:, 0], 2 * (self.first.padding,))
        hidden = functional.linear(padded.unfold(1, self.first.kernel, 1), self.first.matrices[:, 0].T, self.first.bias)
        for block in self.blocks:
            change = None
            for unit in block["units"]:
                change = unit(hidden, change)
            hidden = block["down"](block["snake"](hidden, block["down"].padding, change))
        return self.last(self.snake(hidden, self.last.padding)).transpose(1, 2)


class _Unit(nn.Module):
    """A residual unit: what it adds to `hidden`, after `change`, what the unit before adds, was added in place."""

    def __init__(self, unit: "DacResidualUnit") -> None:
        super().__init__()
        self.snakes = nn.ModuleList(map(_Snake, (unit.snake1, unit.snake2)))
        self.convolutions = nn.ModuleList(map(_Convolution, (unit.conv1, unit.conv2)))

    def forward(self, hidden: torch.Tensor, change: torch.Tensor | None) -> torch.Tensor:
        for snake, convolution in zip(self.snakes, self.convolutions, strict=True):
            hidden, change = convolution(snake(hidden, convolution.padding, change)), None
        return hidden


class _Snake(nn.Module):
    """x + sin(alpha x)^2 / alpha of `(B, T, C)`, between `padding` rows of zeros: `(B, T + 2 padding, C)`.

    `change` is added to x first, in place.
    """

    def __init__(self, snake: "Snake1d") -> None:
        super().__init__()
        self.register_buffer("alpha", snake.alpha.detach().flatten().clone())
        self.register_buffer("inverse", (self.alpha + 1e-9).reciprocal())

    def forward(self, hidden: torch.Tensor, padding: int, change: torch.Tensor | None = None) -> torch.Tensor:
        batch, length, width = hidden.shape
        padded = hidden.new_empty(batch, length + 2 * padding, width) if padding else hidden
        padded[:, :padding] = 0
        padded[:, padding + length :] = 0
        rows = max(1, (_PIECE if torch.get_num_threads() == 1 else _SHARED_PIECE) // width)
        sine = hidden.new_empty(min(rows, length), width)
        for clip in range(batch):
            for start in range(0, length, rows):
                piece = hidden[clip, start : start + rows]
                if change is not None:
                    piece += change[clip, start : start + rows]
                squared = torch.mul(piece, self.alpha, out=sine[: len(piece)]).sin_().square_()
                target = padded[clip, padding + start : padding + start + len(piece)]
                torch.addcmul(piece, squared, self.inverse, out=target)
        return padded


class _Convolution(nn.Module):
    """`(B, T, C)`, padded, to `(B, T', C')`.

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
            image = padded.transpose(1, 2)[:, :, None]  # in channels-last order as it lies
            return functional.conv2d(image, self.image, self.bias, dilation=(1, self.dilation))[:, :, 0].transpose(1, 2)
        batch, length, width = padded.shape
        count = (length - self.dilation * (self.kernel - 1) - 1) // self.stride + 1
        output = padded.new_empty(batch, count, len(self.bias))
        for clip in range(batch):
            rows = padded[clip, : length // self.stride * self.stride].reshape(-1, self.stride * width)
            for number, matrix in enumerate(self.matrices):
                taken = rows[number * self.dilation : number * self.dilation + count]
                if number:
                    output[clip].addmm_(taken, matrix)
                else:
                    torch.addmm(self.bias, taken, matrix, out=output[clip])
        return output
