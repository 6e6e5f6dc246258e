"""What a CPU does of Audio-Mamba beside products of matrices: compiled, each in one pass.

Written in torch, every token of the selective scan makes five passes over tensors of `(chunks, 24, inner)`, and most of
the time goes into fetching them. The channels do not know of each other, so here a few of them go through all tokens at
a time: their state, 24 values each, never leaves the cache, and the exponentials are used where they are made. What
stands around the scan (a convolution of four taps, three activations, a gate) would be a dozen passes more.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import numpy as np

_CHANNELS = 64
"""Whose state is kept at once: 6 KB for 24 values each, and as much again for the decay."""


def convolved(projected: np.ndarray, taps: np.ndarray, bias: np.ndarray, output: np.ndarray, *, threads: int) -> None:
    """SiLU of a causal convolution over the tokens, of float32 arrays, within 1e-6 of the largest value.

    Args:
        projected: `(B, L, 2 E)`; its first half is convolved.
        taps: `(K, E)`, the last one for the token itself.
        bias: `(E,)`.
        output: `(B, L, E)`, what is made.
        threads: at most so many; what comes out does not depend on it.
    """
    _each(_compiled().convolve, projected, threads, taps, bias, output)


def softplus(steps: np.ndarray, *, threads: int) -> None:
    """log(1 + exp(x)) of a float32 array `(B, L, E)` in place, within 4e-6 of it."""
    _each(_compiled().softplus, steps, threads)


def gated(scanned: np.ndarray, hidden: np.ndarray, skip: np.ndarray, projected: np.ndarray, *, threads: int) -> None:
    """(scanned + skip hidden) SiLU(gate), in place of `scanned`.

    Args:
        scanned, hidden: `(B, L, E)`.
        skip: `(E,)`.
        projected: `(B, L, 2 E)`; its second half is the gate.
        threads: at most so many.
    """
    _each(_compiled().gate, scanned, threads, hidden, skip, projected)


def _each(run: Callable[..., None], clips: np.ndarray, threads: int, *others: np.ndarray) -> None:
    """`run` of rows `first` to `last` of every clip; of `others` those with three axes are taken clip by clip."""
    size = max(1, -(-clips.shape[1] // threads))
    shares = [(clip, start) for clip in range(len(clips)) for start in range(0, clips.shape[1], size)]

    def work(share: tuple[int, int]) -> None:
        clip, start = share
        own = [other[clip] if other.ndim == 3 else other for other in others]
        run(clips[clip], start, min(start + size, clips.shape[1]), *own)

    _together(work, shares, threads)


def _together(work: Callable[[Any], None], shares: Sequence[Any], threads: int) -> None:
    if min(threads, len(shares)) == 1:
        for share in shares:
            work(share)
    else:
        with ThreadPoolExecutor(min(threads, len(shares))) as pool:
            list(pool.map(work, shares))


def scan(
    hidden: np.ndarray,
    step: np.ndarray,
    decay: np.ndarray,
    into: np.ndarray,
    out_of: np.ndarray,
    *,
    threads: int,
    output: np.ndarray | None = None,
) -> np.ndarray:
    """`audiomamba_model.selective_scan`, of float32 arrays, within 1e-6 of the largest value.

    Args:
        hidden, step: `(B, L, E)`.
        decay: `(E, N)`, negative.
        into, out_of: `(B, L, N)`.
        threads: at most so many; what comes out does not depend on it.
        output: what is filled and given back, fresh by default; it may be `step`.

    Returns:
        `(B, L, E)`.
    """
    batch, _, inner = hidden.shape
    output = np.empty_like(hidden, order="C") if output is None else output
    rates = np.ascontiguousarray(decay.T.astype(np.float64) / np.log(2), np.float32)
    run = _compiled().scan
    pieces = [(clip, start) for clip in range(batch) for start in range(0, inner, _CHANNELS)]
    shares = [pieces[number::threads] for number in range(min(threads, len(pieces)))]

    def work(share: list[tuple[int, int]]) -> None:
        for clip, start in share:
            there = slice(start, min(start + _CHANNELS, inner))
            own = hidden[clip, :, there], step[clip, :, there], rates[:, there]
            run(*own, into[clip], out_of[clip], output[clip, :, there])

    _together(work, shares, threads)
    return output


class _Compiled(NamedTuple):
    """Functions of one clip, that can run in several threads."""

    convolve: Callable[..., None]
    softplus: Callable[..., None]
    scan: Callable[..., None]
    gate: Callable[..., None]


@cache
def _compiled() -> _Compiled:
    """All of them, the scan of `_CHANNELS` channels or less; compiled at the first call, for this processor."""
    from llvmlite import ir
    from numba import float32, int64, njit, types, void
    from numba.extending import intrinsic

    @intrinsic
    def exponent(context, number):  # noqa: ANN001, ANN202
        """The last bits of a float as the exponent of another."""

        def generate(context, builder, signature, values):  # noqa: ANN001, ANN202
            bits = builder.bitcast(values[0], ir.IntType(32))
            return builder.bitcast(builder.shl(bits, ir.Constant(ir.IntType(32), 23)), ir.FloatType())

        return types.float32(types.float32), generate

    # 2^f for f from -1/2 to 1/2, to 2e-8 of it, at the points where a polynomial of this degree strays least.
    points = np.cos(np.pi * (np.arange(64) + 0.5) / 64) / 2
    c0, c1, c2, c3, c4, c5, c6 = np.polynomial.polynomial.polyfit(points, 2**points, 6).astype(np.float32)
    # log(1 + z) / z for z from 0 to 1, to 2e-8.
    from_0 = points + 0.5
    logs = np.polynomial.polynomial.polyfit(from_0, np.log1p(from_0) / from_0, 10).astype(np.float32)
    d0, d1, d2, d3, d4, d5, d6, d7, d8, d9, d10 = logs
    lowest, highest = np.float32(-126), np.float32(126)
    # Added to a number, it leaves a whole one, plus 127, in the last bits.
    rounding = np.float32(1.5 * 2**23 + 127)
    per = np.float32(1 / np.log(2))
    rest_of_per = np.float32(1 / np.log(2) - float(per))
    one, nothing = np.float32(1), np.float32(0)

    flags = {
        "nogil": True,
        "fastmath": {"contract"},  # a * b + c in one operation; no other liberties
        "error_model": "numpy",
    }
    rows, wide = float32[:, ::1], float32[::1]

    @njit(float32(float32), **flags)
    def two_to(power):  # noqa: ANN001, ANN202
        power = lowest if power < lowest else power
        rounded = power + rounding
        rest = power - (rounded - rounding)
        value = c0 + rest * (c1 + rest * (c2 + rest * (c3 + rest * (c4 + rest * (c5 + rest * c6)))))
        return value * exponent(rounded)

    @njit(float32(float32), **flags)
    def e_to(number):  # noqa: ANN001, ANN202
        whole = number * per
        whole = lowest if whole < lowest else whole
        whole = highest if whole > highest else whole
        rounded = whole + rounding
        rest = number * per - (rounded - rounding) + number * rest_of_per
        rest = rest if abs(number) < np.float32(87) else nothing
        value = c0 + rest * (c1 + rest * (c2 + rest * (c3 + rest * (c4 + rest * (c5 + rest * c6)))))
        return value * exponent(rounded)

    @njit(void(rows, int64, int64, rows, wide, rows), **flags)
    def convolve(projected, first, last, taps, bias, output):  # noqa: ANN001, ANN202
        width = len(bias)
        for row in range(first, last):
            for channel in range(width):
                output[row, channel] = bias[channel]
            for tap in range(max(0, len(taps) - 1 - row), len(taps)):
                before = row - (len(taps) - 1) + tap
                for channel in range(width):
                    output[row, channel] += projected[before, channel] * taps[tap, channel]
            for channel in range(width):
                value = output[row, channel]
                output[row, channel] = value / (one + e_to(-value))

    @njit(void(rows, int64, int64), **flags)
    def softplus(steps, first, last):  # noqa: ANN001, ANN202
        for row in range(first, last):
            for channel in range(steps.shape[1]):
                value = steps[row, channel]
                z = e_to(-abs(value))
                tail = d5 + z * (d6 + z * (d7 + z * (d8 + z * (d9 + z * d10))))
                log = z * (d0 + z * (d1 + z * (d2 + z * (d3 + z * (d4 + z * tail)))))
                steps[row, channel] = (nothing if value < nothing else value) + log

    @njit(void(*[float32[:, :]] * 6), **flags)
    def scan(hidden, step, rates, into, out_of, output):  # noqa: ANN001, ANN202
        length, width = hidden.shape
        states = rates.shape[0]
        state = np.zeros((states, _CHANNELS), np.float32)
        rate = np.zeros((states, _CHANNELS), np.float32)
        rate[:, :width] = rates
        steps = np.zeros(_CHANNELS, np.float32)
        driven = np.zeros(_CHANNELS, np.float32)
        total = np.zeros(_CHANNELS, np.float32)
        for token in range(length):
            for channel in range(width):
                steps[channel] = step[token, channel]
                driven[channel] = step[token, channel] * hidden[token, channel]
                total[channel] = 0
            for number in range(states):
                enters, leaves = into[token, number], out_of[token, number]
                for channel in range(_CHANNELS):
                    value = two_to(steps[channel] * rate[number, channel])
                    value = value * state[number, channel] + driven[channel] * enters
                    state[number, channel] = value
                    total[channel] += value * leaves
            for channel in range(width):
                output[token, channel] = total[channel]

    @njit(void(rows, int64, int64, rows, wide, rows), **flags)
    def gate(scanned, first, last, hidden, skip, projected):  # noqa: ANN001, ANN202
        width = len(skip)
        for row in range(first, last):
            for channel in range(width):
                gated = projected[row, width + channel]
                value = scanned[row, channel] + skip[channel] * hidden[row, channel]
                scanned[row, channel] = value * (gated / (one + e_to(-gated)))

    return _Compiled(convolve, softplus, scan, gate)
