"""What a process is set to does not reach into an encoder."""

import threading
from collections.abc import Callable, Iterator

import pytest
import torch

from serfuse.encoders.torch_inference import inference

PLACES = {
    "products": torch.backends.cuda.matmul,
    "convolutions": torch.backends.cudnn.conv,
    "recurrences": torch.backends.cudnn.rnn,
    "products on a CPU": torch.backends.mkldnn.matmul,
}


def precisions() -> dict[str, str]:
    return {name: place.fp32_precision for name, place in PLACES.items()}


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    before = {place: place.fp32_precision for place in PLACES.values()}
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    for place, precision in before.items():
        place.fp32_precision = precision


def speechbrain() -> None:
    torch.backends.cuda.matmul.allow_tf32 = True  # as it does when it is imported


def lowest() -> None:
    torch.set_float32_matmul_precision("medium")


def new_way() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"


def both_ways() -> None:
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.conv.fp32_precision = "ieee"


@pytest.mark.parametrize("setting", [speechbrain, lowest, new_way, both_ways], ids=lambda setting: setting.__name__)
def test_full_float32_inside_and_as_before_outside(setting: Callable[[], None]) -> None:
    setting()
    before = precisions()
    assert "tf32" in before.values()
    with inference():
        assert set(precisions().values()) == {"ieee"}
        assert not torch.backends.cuda.matmul.allow_tf32, "torch's older setting says something else"
    assert precisions() == before


def test_of_several_threads_the_last_one_puts_back_what_the_first_one_found() -> None:
    lowest()
    before = precisions()
    there, leave, inside = threading.Event(), threading.Event(), []

    def other() -> None:
        with inference():
            there.set()
            leave.wait(60)
            inside.append(precisions())

    thread = threading.Thread(target=other)
    with inference():
        thread.start()
        assert there.wait(60)
    leave.set()
    thread.join()
    assert set(inside[0].values()) == {"ieee"}, "a thread that left took the others' settings along"
    assert precisions() == before
