"""The targets of `make fuzz`, with few inputs, which hypothesis makes smaller where one fails."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.requests import try_requests
from tests.fuzz.targets import TARGETS
from tests.properties.values import SETTINGS
from tests.support.backends import FRESH_URLS


@pytest.mark.parametrize("name", TARGETS)
@settings(SETTINGS, max_examples=500)
@given(data=st.binary(max_size=300))
def test_a_hostile_input_is_taken_whole_or_refused(name: str, data: bytes) -> None:
    TARGETS[name](data)


@pytest.mark.parametrize("store", FRESH_URLS)
async def test_a_hostile_request_is_answered(store: str, tmp_path: Path) -> None:
    async with FRESH_URLS[store](tmp_path) as url:
        statuses, findings = await try_requests(url, cases=500, seed=1)
    assert findings == []
    assert {200, 400, 404} <= statuses.keys()
