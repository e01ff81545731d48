"""A server that listens where the others do not reach it is told apart when it starts."""

import pytest

from workflow_server.app.commands.serve import is_out_of_reach
from workflow_server.app.settings import load_settings

NEAR, FAR = "http://127.0.0.1:8000", "http://10.0.0.7:8000"


@pytest.mark.parametrize(
    ("host", "address", "is_expected"),
    [
        ("127.0.0.1", NEAR, False),  # all of them are on one machine, and Postgres too
        ("127.0.0.1", FAR, True),
        ("0.0.0.0", FAR, False),
        ("127.0.0.1", None, False),
    ],
)
def test_what_is_told_to_the_others_may_be_out_of_their_reach(
    host: str, address: str | None, is_expected: bool
) -> None:
    assert is_out_of_reach(load_settings(replicas=True), host, address) is is_expected
    assert not is_out_of_reach(load_settings(), host, address)


def test_an_address_of_ones_own_may_lead_to_loopback() -> None:
    settings = load_settings(replicas=True, advertise_address=FAR)
    assert not is_out_of_reach(settings, "127.0.0.1", FAR)
