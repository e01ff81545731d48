"""What people write comes to one result, whichever way its runs go."""

import gc
from pathlib import Path

import pytest

from tests.support.backends import DURABLE, FRESH_URLS
from tests.users.cases import CASES
from tests.users.ways import WAYS

pytestmark = [
    # Of fields that hold something else than they declare; a server prints it.
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings"),
    # llama-index-core's memories never close their databases.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <function Connection.__del__"),
]


@pytest.mark.parametrize("store", DURABLE)
@pytest.mark.parametrize("way", WAYS)
async def test_every_run_comes_to_its_one_result(way: str, store: str, tmp_path: Path) -> None:
    async with FRESH_URLS[store](tmp_path) as url:
        results = await WAYS[way](url, CASES)
    gc.collect()  # of memories, while it is known whose they are
    assert results == {name: case.expected for name, case in CASES.items()}
