"""What a page of somebody else's can have a browser send, and what comes of it."""

import httpx
import pytest

from tests.support.live import open_client
from tests.support.problems import problem_of
from tests.support.workflows import add_all
from workflow_server.app.errors import OriginNotAllowed
from workflow_server.app.origin_patterns import compile_origin_pattern
from workflow_server.app.server import WorkflowServer
from workflow_server.app.settings import SettingsError

FOREIGN = ["cross-site", "same-site"]
# How browsers ask for a page's images, scripts, frames and objects, which carry no `Origin`.
EMBEDDED = [
    ("no-cors", "image"),
    ("no-cors", "script"),
    ("no-cors", "empty"),
    ("navigate", "iframe"),
    ("navigate", "object"),
]


def of_page(site: str, mode: str, destination: str) -> dict[str, str]:
    """Return the headers that a browser adds (Fetch Metadata Request Headers, W3C)."""
    return {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": destination}


@pytest.mark.parametrize("site", FOREIGN)
@pytest.mark.parametrize(("mode", "destination"), EMBEDDED)
@pytest.mark.parametrize("path", ["/events/h", "/handlers", "/"])
async def test_what_a_foreign_page_embeds_is_refused(
    client: httpx.AsyncClient, path: str, site: str, mode: str, destination: str
) -> None:
    response = await client.get(path, headers=of_page(site, mode, destination))
    assert problem_of(response) == (403, OriginNotAllowed.code)


@pytest.mark.parametrize("site", FOREIGN)
async def test_a_form_of_a_foreign_page_is_refused(client: httpx.AsyncClient, site: str) -> None:
    headers = of_page(site, "navigate", "document")
    response = await client.post("/workflows/echo/run-nowait", headers=headers)
    assert problem_of(response) == (403, OriginNotAllowed.code)


@pytest.mark.parametrize("site", FOREIGN)
async def test_a_link_on_a_foreign_page_opens_ours(client: httpx.AsyncClient, site: str) -> None:
    response = await client.get("/handlers", headers=of_page(site, "navigate", "document"))
    assert response.status_code == 200


@pytest.mark.parametrize("site", ["none", "same-origin"])
async def test_our_own_pages_and_what_people_type_are_served(
    client: httpx.AsyncClient, site: str
) -> None:
    response = await client.get("/handlers", headers=of_page(site, "cors", "empty"))
    assert response.status_code == 200


async def test_of_two_such_headers_the_worse_counts(client: httpx.AsyncClient) -> None:
    headers = [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")]
    assert problem_of(await client.get("/handlers", headers=headers))[0] == 403


async def test_a_page_that_may_call_says_so_by_its_origin(client: httpx.AsyncClient) -> None:
    headers = {**of_page("same-site", "cors", "empty"), "Origin": "http://localhost:3000"}
    assert (await client.get("/handlers", headers=headers)).status_code == 200


async def test_where_every_page_may_call_what_they_embed_is_served() -> None:
    server = WorkflowServer(cors_origins=["*"])
    add_all(server)
    async with open_client(server) as client:
        response = await client.get("/handlers", headers=of_page("cross-site", "no-cors", "image"))
    assert response.status_code == 200


BLOWS_UP = [r"(a+)+$", r"https://([a-z]+\.?)*\.example", r"(a|a)*b", r"(.*)*x", r"(\w|\d)+!"]


@pytest.mark.parametrize("pattern", BLOWS_UP)
async def test_a_pattern_with_many_ways_to_fit_takes_one_look(pattern: str) -> None:
    server = WorkflowServer(cors_origin_pattern=pattern)
    add_all(server)
    async with open_client(server) as client:
        headers = {"Origin": "https://" + "a" * 30_000 + "?"}
        assert problem_of(await client.get("/handlers", headers=headers))[0] == 403


@pytest.mark.parametrize("pattern", BLOWS_UP)
def test_such_a_pattern_is_matched_in_time_with_its_input(pattern: str) -> None:
    # Python's own engine would take longer than the world has lasted.
    assert not compile_origin_pattern(pattern)("a" * 500 + "?")


@pytest.mark.parametrize("pattern", [r"(?=https).*", r"(.)\1", "(", "((a{900}){900}){900}"])
def test_a_pattern_that_cannot_be_matched_so_is_refused(pattern: str) -> None:
    with pytest.raises(SettingsError, match="RE2"):
        WorkflowServer(cors_origin_pattern=pattern)


async def test_an_origin_that_is_longer_than_any_is_not_looked_at() -> None:
    server = WorkflowServer(cors_origin_pattern="https://a+")
    add_all(server)
    async with open_client(server) as client:
        fits = await client.get("/handlers", headers={"Origin": "https://" + "a" * 500})
        over = await client.get("/handlers", headers={"Origin": "https://" + "a" * 505})
    assert (fits.status_code, over.status_code) == (200, 403)
