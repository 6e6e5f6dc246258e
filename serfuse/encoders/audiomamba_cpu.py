"""The selective scan of Audio-Mamba on a CPU: compiled, in one pass, with the state in the processor's nearest cache.

Written in torch, every token makes five passes over tensors of `(chunks, 24, inner)`, and most of the time goes into
fetching them. The channels do not know of each other, so here a few of them go through all tokens at a time: their
state, 24 values each, never leaves the cache, and the exponentials are used where they are made.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

_CHANNELS = 64
"""Whose state is kept at once: 6 KB for 24 values each, and as much again for the decay."""


def scan(
    hidden: np.ndarray, step: np.ndarray, decay: np.ndarray, into: np.ndarray, out_of: np.ndarray, *, threads: int
) -> np.ndarray:
    """`audiomamba_model.selective_scan`, of float32 arrays, within 1e-6 of the largest value.

    Args:
        hidden, step: `(B, L, E)`.
        decay: `(E, N)`, negative.
        into, out_of: `(B, L, N)`.
        threads: at most so many; what comes out does not depend on it.

    Returns:
        `(B, L, E)`.
    """
    batch, _, inner = hidden.shape
    output = np.empty_like(hidden, order="C")
    rates = np.ascontiguousarray(decay.T.astype(np.float64) / np.log(2), np.float32)
    run = _compiled()
    pieces = [(clip, start) for clip in range(batch) for start in range(0, inner, _CHANNELS)]
    shares = [pieces[number::threads] for number in range(min(threads, len(pieces)))]

    def work(share: list[tuple[int, int]]) -> None:
        for clip, start in share:
            there = slice(start, min(start + _CHANNELS, inner))
            own = hidden[clip, :, there], step[clip, :, there], rates[:, there]
            run(*own, into[clip], out_of[clip], output[clip, :, there])

    if len(shares) == 1:
        work(shares[0])
    else:
        with ThreadPoolExecutor(len(shares)) as pool:
            list(pool.map(work, shares))
    return output


@cache
def _compiled() -> Callable[..., None]:
    """The scan of `_CHANNELS` channels or less; compiled at the first call, for this processor."""
    from llvmlite import ir
    from numba import float32, njit, types, void
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
    lowest = np.float32(-126)
    # Added to a number, it leaves a whole one, plus 127, in the last bits.
    rounding = np.float32(1.5 * 2**23 + 127)

    @njit(
        void(*[float32[:, :]] * 6),
        nogil=True,
        fastmath={"contract"},  # a * b + c in one operation; no other liberties
        error_model="numpy",
    )
    def run(hidden, step, rates, into, out_of, output):  # noqa: ANN001, ANN202
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
                    power = steps[channel] * rate[number, channel]
                    power = lowest if power < lowest else power
                    rounded = power + rounding
                    rest = power - (rounded - rounding)
                    value = c0 + rest * (c1 + rest * (c2 + rest * (c3 + rest * (c4 + rest * (c5 + rest * c6)))))
                    value *= exponent(rounded)
                    value = value * state[number, channel] + driven[channel] * enters
                    state[number, channel] = value
                    total[channel] += value * leaves
            for channel in range(width):
                output[token, channel] = total[channel]

    return run
