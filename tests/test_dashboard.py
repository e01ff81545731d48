"""The dashboard and the alerts ask for metrics that there are, and the dashboard shows them all."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import httpx
import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.support.calls import run
from tests.support.documents import ROOT
from tests.support.replica_metrics import render_replica_metrics

Json = dict[str, Any]

DASHBOARD: Json = json.loads((ROOT / "docs/grafana/workflow-server.json").read_text("utf-8"))
ALERTS: Json = yaml.safe_load((ROOT / "docs/grafana/alerts.yaml").read_text("utf-8"))
PANELS: list[Json] = DASHBOARD["panels"]
VARIABLES: list[Json] = DASHBOARD["templating"]["list"]
WIDTH = 24
NAME = re.compile(r"\b(?:workflow_server|process)_\w+")
# What a query selects or groups by: `status="failed"`, `sum by (le, workflow)`.
LABELS = re.compile(r"(\w+)=~?\"|by \(([\w, ]+)\)")
# What Prometheus itself knows of a target.
OF_PROMETHEUS = {"job", "instance"}


def list_queries() -> list[str]:
    """Return the queries of the dashboard's panels."""
    return [target["expr"] for panel in PANELS for target in panel.get("targets", ())]


def list_rules() -> list[str]:
    """Return the queries of the alerts."""
    return [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]


def list_labels(query: str) -> set[str]:
    """Return the labels that a query names."""
    found = (match[1] or match[2] for match in LABELS.finditer(query))
    return {label for names in found for label in names.split(", ")}


@pytest.fixture
async def families(client: httpx.AsyncClient) -> list[Metric]:
    """Return the metrics of a server that has run and refused something, and of one of many."""
    await run(client, "greeter", name="Ada")
    await run(client, "greeter", name=1)
    texts = (await client.get("/metrics")).text, render_replica_metrics()
    return [
        family
        for text in texts
        for family in text_string_to_metric_families(text)
        if not family.name.endswith("_created")  # when a series began
    ]


@pytest.mark.parametrize("query", [*list_queries(), *list_rules()])
async def test_a_query_asks_for_what_the_server_tells(query: str, families: list[Metric]) -> None:
    samples = {sample.name: sample.labels for family in families for sample in family.samples}
    names = set(NAME.findall(query))
    assert names <= samples.keys()
    told = {label for name in names for label in samples[name]}
    assert list_labels(query) <= told | OF_PROMETHEUS


@pytest.mark.parametrize("variable", [v for v in VARIABLES if v["type"] == "query"], ids=str)
async def test_a_variable_asks_for_what_the_server_tells(
    variable: Json, families: list[Metric]
) -> None:
    [name] = NAME.findall(variable["query"]["query"])
    assert name in {sample.name for family in families for sample in family.samples}


async def test_every_metric_of_the_server_is_shown(families: list[Metric]) -> None:
    shown = {
        re.sub("_(bucket|sum|count|total)$", "", n) for q in list_queries() for n in NAME.findall(q)
    }
    own = {family.name for family in families if family.name.startswith("workflow_server_")}
    assert own - shown == set()


def test_grafana_knows_every_part_of_the_dashboard() -> None:
    register_default_plugins()
    understood = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD)))
    assert list(list_lost(DASHBOARD, understood)) == []


def list_lost(given: Any, understood: Any, place: str = "") -> Iterator[str]:
    """Yield the places of what is not understood as it was given."""
    match given, understood:
        case dict(), dict():
            for key, value in given.items():
                yield from list_lost(value, understood.get(key), f"{place}.{key}")
        case list(), list():
            yield from [place] if len(given) != len(understood) else []
            for index, (one, other) in enumerate(zip(given, understood, strict=False)):
                yield from list_lost(one, other, f"{place}[{index}]")
        case _:
            yield from [place] if given != understood else []


def test_panels_lie_side_by_side_on_the_grid() -> None:
    places = [panel["gridPos"] for panel in PANELS]
    assert [p for p in places if p["x"] < 0 or p["x"] + p["w"] > WIDTH or p["h"] < 1] == []
    assert [(one, other) for one, other in combinations(places, 2) if overlap(one, other)] == []


def overlap(one: Json, other: Json) -> bool:
    """Tell whether two places of the grid share a field."""
    return all(
        one[start] < other[start] + other[size] and other[start] < one[start] + one[size]
        for start, size in (("x", "w"), ("y", "h"))
    )


def test_each_panel_has_an_id_a_description_and_the_chosen_datasource() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    charts = [panel for panel in PANELS if panel["type"] != "row"]
    assert [panel["title"] for panel in charts if not panel["description"]] == []
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert [
        p["title"] for p in charts for part in (p, *p["targets"]) if part["datasource"] != chosen
    ] == []
    assert [v["type"] for v in VARIABLES if v["name"] == "datasource"] == ["datasource"]


def test_every_variable_of_a_query_is_defined() -> None:
    built_in = {"__rate_interval", "__range"}
    queries = [*list_queries(), *(v["query"]["query"] for v in VARIABLES if v["type"] == "query")]
    used = {name for query in queries for name in re.findall(r"\$(\w+)", query)}
    assert used <= {v["name"] for v in VARIABLES} | built_in


def test_each_alert_says_how_bad_it_is_and_what_it_means() -> None:
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    assert {rule["labels"]["severity"] for rule in rules} == {"page", "ticket"}
    assert [rule["alert"] for rule in rules if not rule["annotations"]["summary"]] == []
