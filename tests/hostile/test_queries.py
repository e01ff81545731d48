"""Parameters of a query that could cost much: they take time in proportion to their length."""

from time import process_time

import pytest
from pydantic import TypeAdapter, ValidationError

from workflow_server.routers.handlers import Time

LENGTH = 200_000  # characters, a few more than a request line may have
BOUND = 60.0  # seconds of the processor; it takes some thousandths of one


@pytest.mark.parametrize("part", ["T", "T ", " ", "1", "1e", ":", "T1 0"])
def test_a_long_text_that_is_no_time_is_refused_in_linear_time(part: str) -> None:
    before = process_time()
    with pytest.raises(ValidationError):
        TypeAdapter(Time).validate_python(part * (LENGTH // len(part)))
    assert process_time() - before < BOUND
