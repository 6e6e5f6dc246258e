"""Audio-Mamba's selective scan on a GPU as one kernel of Triton, which comes with torch where there is CUDA.

As operations of torch, every token is five passes over a state of `(chunks, 24, inner)`, thousands of launches for a
batch. Channels do not know of each other, so here some of them go through all tokens with their state in registers.
Importing this takes Triton.
"""

# ruff: noqa: ANN001, ANN202
# What Triton compiles has annotations for its compiler only.
import torch
import triton
from triton import language as tl

_CHANNELS = 32
"""Of a program: with 24 values of state each, as many as a warp holds in its registers."""


def scan(
    hidden: torch.Tensor, step: torch.Tensor, decay: torch.Tensor, into: torch.Tensor, out_of: torch.Tensor
) -> torch.Tensor:
    """See `audiomamba_model.selective_scan`; float32, on a GPU.

    Raises:
        RuntimeError: the kernel cannot be compiled here: Triton asks for a C compiler.
    """
    hidden, step, decay, into, out_of = (tensor.contiguous() for tensor in (hidden, step, decay, into, out_of))
    batch, length, inner = hidden.shape
    states = decay.shape[1]
    output = torch.empty_like(hidden)
    grid = (batch, triton.cdiv(inner, _CHANNELS))
    _scan[grid](
        hidden=hidden,
        step=step,
        decay=decay,
        into=into,
        out_of=out_of,
        output=output,
        inner=inner,
        states=states,
        length=length,
        channels_at_once=_CHANNELS,
        states_at_once=triton.next_power_of_2(states),
        num_warps=1,
    )
    return output


@triton.jit
def _scan(
    hidden,
    step,
    decay,
    into,
    out_of,
    output,
    inner,
    states,
    length: tl.constexpr,
    channels_at_once: tl.constexpr,
    states_at_once: tl.constexpr,
):
    """All tokens of one chunk, for some of its channels."""
    chunk = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * channels_at_once + tl.arange(0, channels_at_once)
    place = tl.arange(0, states_at_once)
    there, real = channel < inner, place < states
    rates = tl.load(decay + channel[:, None] * states + place[None, :], mask=there[:, None] & real[None, :], other=0.0)
    state = tl.zeros((channels_at_once, states_at_once), tl.float32)
    for token in range(length):
        row = chunk * length + token
        taken = tl.load(step + row * inner + channel, mask=there, other=0.0)
        given = tl.load(hidden + row * inner + channel, mask=there, other=0.0)
        entering = tl.load(into + row * states + place, mask=real, other=0.0)
        leaving = tl.load(out_of + row * states + place, mask=real, other=0.0)
        state = state * tl.exp(taken[:, None] * rates) + (taken * given)[:, None] * entering[None, :]
        tl.store(output + row * inner + channel, tl.sum(state * leaving[None, :], axis=1), mask=there)
