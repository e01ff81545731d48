"""What is stored of a large document is small, and comes back as it was."""

import random
from base64 import b64encode
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_server.stores.compression import LARGE, LZ4, compress, expand, size_of

WORDS = b"[%b]" % b",".join(b'"row %d"' % number for number in range(8_000))
PICTURE = b'"%b"' % b64encode(random.Random(1).randbytes(60_000))


@given(st.binary(max_size=200), st.integers(1, 2_000))
def test_a_document_comes_back_as_it_was(part: bytes, times: int) -> None:
    document = b"{%b" % (part * times)
    stored = compress(document, worth=0.4)
    assert (expand(stored), size_of(stored)) == (document, len(document))


def test_what_can_be_made_smaller_is() -> None:
    assert len(compress(WORDS, worth=0.4)) < len(WORDS) * 3 // 4


@pytest.mark.parametrize("document", [WORDS[: LARGE - 1], PICTURE], ids=["small", "picture"])
def test_what_is_small_or_cannot_be_made_smaller_is_stored_as_it_is(document: bytes) -> None:
    assert compress(document, worth=0.4) is document


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda stored: LZ4, id="nothing left"),
        pytest.param(lambda stored: stored[: len(stored) // 2], id="cut off"),
        pytest.param(lambda stored: LZ4 + b"\xff" * 4 + stored[5:], id="a size beyond reason"),
        pytest.param(
            lambda stored: LZ4 + b"\xff\0\0\0" + stored[5:], id="a size that is too small"
        ),
        pytest.param(lambda stored: LZ4 + b"\0\0\1\0" + stored[5:], id="a size that is too large"),
    ],
)
def test_what_is_damaged_is_an_error(damage: Callable[[bytes], bytes]) -> None:
    stored = damage(compress(WORDS, worth=0.4))
    with pytest.raises(ValueError):  # noqa: PT011  # whatever the sentence
        expand(stored)
