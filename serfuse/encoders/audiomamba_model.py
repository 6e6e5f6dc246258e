"""The network of Audio-Mamba (SSAM) in plain torch, with the names of the official checkpoints.

Yadav and Tan, Audio Mamba: Selective State Spaces for Self-Supervised Audio Representations, Interspeech 2024.
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from . import audiomamba_cpu

_log = logging.getLogger(__name__)

CHUNK_FRAMES, MELS = 200, 80
"""Mel frames and bands of one chunk."""

PATCH_FRAMES, PATCH_MELS = 4, 16

GRID = (CHUNK_FRAMES // PATCH_FRAMES, MELS // PATCH_MELS)
"""Patches over time and over frequency."""

_AT_ONCE = 128
"""Blocks of tokens, of all chunks together, that a GPU is to work on at once."""

_DT_MIN, _DT_MAX, _DT_FLOOR = 1e-3, 1e-1, 1e-4


class Mixer(nn.Module):
    """Mamba's selective state space, forward in time. Gu and Dao 2023, section 3.4 and algorithm 2.

    Args:
        dim: D of the tokens.
        state, conv, expand: size of the state, taps of the causal convolution, inner width over `dim`.
        depth: number of blocks; random weights shrink the output by its root.
    """

    def __init__(self, dim: int, *, state: int, conv: int, expand: int, depth: int) -> None:
        super().__init__()
        inner, rank = expand * dim, math.ceil(dim / 16)
        self.split = (rank, state, state)
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, conv, groups=inner, padding=conv - 1)
        self.x_proj = nn.Linear(inner, sum(self.split), bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.out_proj = nn.Linear(inner, dim, bias=False)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, state + 1, dtype=torch.float32)).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        with torch.no_grad():
            nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
            span = math.log(_DT_MAX) - math.log(_DT_MIN)
            step = torch.exp(torch.rand(inner) * span + math.log(_DT_MIN)).clamp(min=_DT_FLOOR)
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))  # softplus gives `step` back
            self.out_proj.weight /= math.sqrt(depth)

    def forward(self, tokens: torch.Tensor, room: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
        """`(B, L, D)` to `(B, L, D)`.

        Args:
            tokens: what comes in.
            room: memory that the mixers of a pass share on a CPU; fresh memory costs a tenth of the time there.
        """
        if _compilable(tokens) and not (torch.is_grad_enabled() and self.D.requires_grad):
            return self._compiled(tokens, {} if room is None else room)
        hidden, gate = self.in_proj(tokens).chunk(2, dim=-1)
        hidden = functional.silu(self._convolved(hidden))
        low, into, out_of = self.x_proj(hidden).split(self.split, dim=-1)
        step = functional.softplus(self.dt_proj(low))
        scanned = selective_scan(hidden, step, -torch.exp(self.A_log), into, out_of)
        return self.out_proj(torch.addcmul(scanned, self.D, hidden) * functional.silu(gate))

    def _compiled(self, tokens: torch.Tensor, room: dict[str, torch.Tensor]) -> torch.Tensor:
        """`forward` on a CPU, without gradients."""
        threads, (batch, length, _), inner = torch.get_num_threads(), tokens.shape, len(self.D)
        for name, width in (("projected", 2 * inner), ("hidden", inner), ("step", inner)):
            if name not in room or room[name].shape != (batch, length, width):
                room[name] = tokens.new_empty(batch, length, width)
        rows = {name: held.flatten(0, 1) for name, held in room.items()}
        given, hidden, step = (room[name].numpy() for name in ("projected", "hidden", "step"))
        torch.mm(tokens.flatten(0, 1), self.in_proj.weight.T, out=rows["projected"])
        taps, bias, skip = (
            weights.detach().contiguous().numpy() for weights in (self.conv1d.weight[:, 0].T, self.conv1d.bias, self.D)
        )
        audiomamba_cpu.convolved(given, taps, bias, hidden, threads=threads)
        low, into, out_of = self.x_proj(room["hidden"]).split(self.split, dim=-1)
        torch.addmm(self.dt_proj.bias, low.flatten(0, 1), self.dt_proj.weight.T, out=rows["step"])
        audiomamba_cpu.softplus(step, threads=threads)
        decay = -torch.exp(self.A_log)
        audiomamba_cpu.scan(hidden, step, decay.numpy(), into.numpy(), out_of.numpy(), threads=threads, output=step)
        audiomamba_cpu.gated(step, hidden, skip, given, threads=threads)
        return self.out_proj(room["step"])

    def _convolved(self, hidden: torch.Tensor) -> torch.Tensor:
        """`conv1d` of `(B, L, E)`, tap by tap: for so few, nothing need be turned round."""
        length, taps = hidden.shape[1], self.conv1d.weight[:, 0].T.contiguous()
        padded = functional.pad(hidden, (0, 0, len(taps) - 1, 0))
        convolved = torch.addcmul(self.conv1d.bias, padded[:, :length], taps[0])
        for place, tap in enumerate(taps[1:], 1):
            convolved = convolved.addcmul_(padded[:, place : place + length], tap)
        return convolved


def _compilable(tensor: torch.Tensor) -> bool:
    """Whether what is compiled for a CPU takes it, and nobody asks for gradients."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32 and not tensor.requires_grad


def selective_scan(
    hidden: torch.Tensor, step: torch.Tensor, decay: torch.Tensor, into: torch.Tensor, out_of: torch.Tensor
) -> torch.Tensor:
    """h_t = exp(step_t decay) h_(t-1) + step_t x_t into_t, and y_t = <h_t, out_of_t>.

    Args:
        hidden, step: `(B, L, E)`.
        decay: `(E, N)`, negative.
        into, out_of: `(B, L, N)`.

    Returns:
        `(B, L, E)`.
    """
    given = (hidden, step, decay, into, out_of)
    if all(map(_compilable, given)):
        given = (tensor.numpy() for tensor in given)
        return torch.from_numpy(audiomamba_cpu.scan(*given, threads=torch.get_num_threads()))
    on_gpu = hidden.device.type == "cuda" and hidden.dtype == torch.float32 and not torch.is_grad_enabled()
    if on_gpu and (kernel := _gpu_kernel()):
        return kernel(*given)
    return scan_in_blocks(*given, blocks=max(1, _AT_ONCE // len(hidden)))


@cache
def _gpu_kernel() -> Callable[..., torch.Tensor] | None:
    """The scan in one kernel, where Triton is installed and can compile: it asks for a C compiler."""
    try:
        from . import audiomamba_gpu

        tokens, decay, enter = (torch.ones(shape, device="cuda") for shape in ((1, 1, 1), (1, 2), (1, 1, 2)))
        audiomamba_gpu.scan(tokens, tokens, -decay, enter, enter)
    except Exception as error:  # whatever a compiler says
        _log.info("Audio-Mamba's scan runs as operations of torch, several times slower: %s", error)
        return None
    return audiomamba_gpu.scan


def scan_in_blocks(
    hidden: torch.Tensor,
    step: torch.Tensor,
    decay: torch.Tensor,
    into: torch.Tensor,
    out_of: torch.Tensor,
    *,
    blocks: int,
) -> torch.Tensor:
    """`selective_scan` on any device, in so many blocks of tokens at once.

    Token after token, a GPU would wait for the next order most of the time. So all blocks begin at once, from an empty
    state; each then passes on to the next what is left of the state it really began with, which it knows from the sum
    of its steps; and with that they go through their tokens again. No state is held but the last: that of all tokens
    would be `(B, L, E, N)`.
    """
    batch, length, inner = hidden.shape
    size = -(-length // min(blocks, math.isqrt(length - 1) + 1))
    blocks = -(-length // size)
    # Zeros behind the last token: a step of zero changes no state. (L', B, blocks, 1, E) and (L', B, blocks, N, 1).
    driven, steps, enter, leave = (
        functional.pad(tensor, (0, 0, 0, blocks * size - length)).unflatten(1, (blocks, size)).permute(2, 0, 1, 3)
        for tensor in (step * hidden, step, into, out_of)
    )
    decay = decay.T.contiguous()  # the wide axis last

    def forward(state: torch.Tensor) -> Iterator[torch.Tensor]:
        for own, drive, entering in zip(steps, driven, enter, strict=True):
            state = state * torch.exp(own[:, :, None] * decay)
            state = state.addcmul_(drive[:, :, None], entering[..., None])
            yield state

    carried = hidden.new_zeros(batch, blocks, decay.shape[0], inner)
    if blocks > 1:
        made = deque(forward(carried), maxlen=1).pop()
        left = torch.exp(steps.sum(0)[:, :, None] * decay)
        begin = [carried[:, 0]]
        for block in range(blocks - 1):
            begin.append(torch.addcmul(made[:, block], left[:, block], begin[-1]))
        carried = torch.stack(begin, dim=1)
    outputs = [(leaving[:, :, None] @ state).squeeze(2) for leaving, state in zip(leave, forward(carried), strict=True)]
    return torch.stack(outputs, dim=2).flatten(1, 2)[:, :length]


class Block(nn.Module):
    """x + mixer(norm(x)). The official code carries the two summands apart, which is the same."""

    def __init__(self, dim: int, **mixer: int) -> None:
        super().__init__()
        self.mixer = Mixer(dim, **mixer)
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, tokens: torch.Tensor, room: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
        return tokens + self.mixer(self.norm(tokens), room)


class PatchEmbed(nn.Module):
    """Patches of a chunk as tokens, all bands of a time patch one after the other."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        size = (PATCH_FRAMES, PATCH_MELS)
        self.proj = nn.Conv2d(1, dim, kernel_size=size, stride=size)
        nn.init.xavier_uniform_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, chunks: torch.Tensor) -> torch.Tensor:
        return self.proj(chunks[:, None]).permute(0, 2, 3, 1).flatten(1, 2)


class AudioMamba(nn.Module):
    """The encoder, with the prediction head and the mask token that pre-training needed, so that names match.

    Args:
        dim: D of the tokens.
        depth: number of blocks.
        state, conv, expand: see `Mixer`.
        layout: "official" regroups the tokens as the published code does: they come (time, frequency) and are
            read as (frequency, time), so that output frame 0 holds the lowest band of the time patches 0, 10,
            20, 30, 40. "freq" puts the bands of one time patch into one frame.
    """

    def __init__(
        self, dim: int, depth: int, *, state: int = 24, conv: int = 4, expand: int = 3, layout: str = "official"
    ) -> None:
        super().__init__()
        self.layout = layout
        self.patch_embed = PatchEmbed(dim)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.mask_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.pos_embed = nn.Parameter(_positions(dim), requires_grad=False)
        self.blocks = nn.ModuleList(
            Block(dim, state=state, conv=conv, expand=expand, depth=depth) for _ in range(depth)
        )
        self.encoder_norm = nn.LayerNorm(dim, eps=1e-6)
        self.pred = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, PATCH_FRAMES * PATCH_MELS))

    def forward(self, chunks: torch.Tensor) -> torch.Tensor:
        """Mel chunks `(B, 200, 80)` to frames `(B, 50, 5 D)`."""
        tokens = self.patch_embed(chunks) + self.pos_embed[:, 1:]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        tokens = torch.cat([first, tokens], dim=1)
        room: dict[str, torch.Tensor] = {}
        for block in self.blocks:
            tokens = block(tokens, room)
        tokens = self.encoder_norm(tokens)[:, 1:]
        batch, _, dim = tokens.shape
        times, bands = GRID
        if self.layout == "official":
            tokens = tokens.reshape(batch, bands, times, dim).transpose(1, 2)
        return tokens.reshape(batch, times, bands * dim)


def _positions(dim: int) -> torch.Tensor:
    """Fixed sines and cosines `(1, 1 + 250, D)`: half of D for the band, half for the time, zeros for CLS."""
    quarter = dim // 4
    frequencies = 1 / 10000 ** (np.arange(quarter) / quarter)
    times, bands = (grid.ravel() for grid in np.meshgrid(*map(np.arange, GRID), indexing="ij"))
    parts = [wave(np.outer(where, frequencies)) for where in (bands, times) for wave in (np.sin, np.cos)]
    table = np.concatenate([np.zeros((1, dim)), np.concatenate(parts, axis=1)])
    return torch.tensor(table[None], dtype=torch.float32)
