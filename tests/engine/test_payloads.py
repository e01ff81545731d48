"""Large values in documents become payloads, and come back as they were."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

from tests.support.counting import count_calls
from workflow_server.app.engine.payloads import (
    MANY,
    PayloadMissing,
    Payloads,
    Stripped,
    has_payloads,
    put_back,
)
from workflow_server.app.engine.values.writer import TAG
from workflow_server.schemas.records import PayloadRecord

LONG = "long " * 100
NAMES = st.sampled_from(["a", "$", "event", "__is_pydantic", "ä", "$$"])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from([LONG, "$", '{"$":0}', json.dumps({"text": LONG})])
)


def encoded(value: Any) -> dict[str, Any]:
    """Return a value as the engine encodes one of a class."""
    return {"__is_pydantic": True, "value": value, "qualified_name": "m.C"}


def tagged(value: Any) -> dict[str, Any]:
    """Return a value as our codec encodes one of a class."""
    return {TAG: "model", "c": "m:C", "f": {"value": value}}


TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(NAMES, inner, max_size=4)
        | inner.map(encoded)
        | inner.map(tagged)
        | inner.map(lambda tree: json.dumps(encoded(tree)))
        | inner.map(lambda tree: to_json(encoded(tree)).decode())
        | inner.map(lambda tree: to_json(tagged(tree)).decode())
    ),
    max_leaves=12,
)


def document_of(**fields: Any) -> bytes:
    """Return a document as bytes."""
    return to_json(fields)


def known(added: list[tuple[int, bytes]]) -> Mapping[int, bytes]:
    """Return payloads by their numbers."""
    return dict(added)


@given(trees=st.lists(TREES, min_size=1, max_size=4))
def test_every_document_comes_back_as_it_was(trees: list[Any]) -> None:
    payloads, added = Payloads(), dict[int, bytes]()
    for tree in trees:
        document = document_of(event=encoded([LONG, tree]), result=tagged([LONG, tree]))
        stripped = payloads.strip(document)
        added |= known(stripped.added)
        assert has_payloads(stripped.document)
        assert put_back(stripped.document, added) == document


@given(trees=st.lists(TREES, min_size=1, max_size=4), place=st.integers(0, MANY))
def test_a_value_is_found_among_many_others_at_any_depth(trees: list[Any], place: int) -> None:
    payloads, event = Payloads(), encoded({"text": LONG})
    values: list[Any] = (trees * MANY)[:MANY]
    values.insert(place, [[{"a": [event]}]])
    document = document_of(values=values, named={str(n): value for n, value in enumerate(values)})
    stripped = payloads.strip(document)
    assert to_json(event) in known(stripped.added).values()
    assert put_back(stripped.document, known(stripped.added)) == document


@given(
    documents=st.lists(st.tuples(TREES, st.booleans()), min_size=1, max_size=6),
    repeats=st.integers(1, 3),
)
def test_a_document_comes_back_after_payloads_were_dropped(
    documents: list[tuple[Any, bool]], repeats: int
) -> None:
    payloads, kept = Payloads(), dict[int, bytes]()
    for tree, is_snapshot in documents * repeats:
        texts = [json.dumps(encoded([LONG, tree])), to_json(encoded([LONG, tree])).decode()]
        document = document_of(queue=texts, event=encoded(tree))
        stripped = payloads.strip(document)
        kept |= known(stripped.added)
        if is_snapshot:
            for number in payloads.keep_only(stripped.numbers):
                del kept[number]
        assert put_back(stripped.document, kept) == document


def test_a_value_is_written_once_wherever_it_is() -> None:
    payloads, event = Payloads(), encoded({"text": LONG})
    first = payloads.strip(document_of(event=event, result=[event]))
    assert first.added == [(0, to_json(event))]
    again = payloads.strip(document_of(queue=[{"event": json.dumps(event)}]))
    assert (again.added, again.numbers) == ([], {0})
    assert len(again.document) < 60


def test_a_value_that_was_changed_in_place_is_another_one() -> None:
    payloads, event = Payloads(), encoded({"text": LONG})
    payloads.strip(document_of(event=event))
    event["value"]["text"] += "!"
    changed = payloads.strip(document_of(event=event))
    assert changed.added == [(1, to_json(event))]


def test_values_that_are_equal_and_of_other_types_are_others() -> None:
    payloads = Payloads()
    values = [encoded({"text": LONG, "n": n}) for n in (1, 1.0, True)]
    stripped = payloads.strip(document_of(values=values))
    assert stripped.numbers == {0, 1, 2}
    assert put_back(stripped.document, known(stripped.added)) == document_of(values=values)


def test_a_value_in_a_value_is_written_once_too() -> None:
    payloads, part = Payloads(), encoded({"text": LONG})
    first = payloads.strip(document_of(event=part))
    batch = payloads.strip(document_of(event=encoded({"events": [part] * 20, "n": 1})))
    assert sum(len(payload) for _, payload in batch.added) < 400
    assert payloads.keep_only(batch.numbers - {0}) == []
    assert payloads.keep_only([]) == [0, *(number for number, _ in batch.added)]
    assert first.numbers == {0}


def test_small_values_stay_where_they_are() -> None:
    document = document_of(events=[encoded({"n": n}) for n in range(100)])
    stripped = Payloads().strip(document)
    assert (stripped.document, stripped.added, stripped.numbers) == (document, [], set())


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a":  1}', '{"a": 1', "{'a': 1}"])
def test_a_text_that_is_nearly_json_is_a_text(text: str) -> None:
    payloads = Payloads()
    document = document_of(event=encoded({"text": text + " " * 300}), other=text + LONG)
    stripped = payloads.strip(document)
    assert put_back(stripped.document, known(stripped.added)) == document


DEEP_MARKS = '{"$":' * 120 + "1" + "}" * 120
DEEP_TEXT = '{"a":' + "[" * 197 + "]" * 197 + "}"


@pytest.mark.parametrize("deep", [from_json(DEEP_MARKS), DEEP_MARKS, DEEP_TEXT])
def test_a_document_that_marks_would_make_too_deep_is_left_as_it_was(deep: Any) -> None:
    payloads, event = Payloads(), encoded({"text": LONG})
    document = document_of(event=event, deep=encoded([LONG, deep]))
    assert payloads.strip(document) == Stripped(document)
    assert [payload for _, payload in payloads.strip(document_of(event=event)).added] == [
        to_json(event)
    ]


def test_what_is_not_kept_is_forgotten_and_written_again() -> None:
    payloads = Payloads()
    kept, gone = encoded({"text": LONG}), encoded({"text": LONG * 2})
    payloads.strip(document_of(a=kept, b=gone))
    assert payloads.keep_only([0]) == [1]
    again = payloads.strip(document_of(a=kept, b=gone))
    assert [number for number, _ in again.added] == [2]
    assert again.numbers == {0, 2}


def test_payloads_that_were_read_are_known() -> None:
    event, part = encoded({"text": LONG}), encoded({"text": LONG * 2})
    before = Payloads().strip(document_of(a=event, b=encoded([part, LONG])))
    read = Payloads(PayloadRecord("r", number, payload) for number, payload in before.added)
    again = read.strip(document_of(a=event, c=LONG, b=encoded([part, LONG])))
    assert (again.added, again.numbers) == ([], before.numbers)
    assert len(read) == len(before.added) == 3
    assert read.keep_only([2]) == [0]  # the last one refers to the second one
    assert [number for number, _ in read.strip(document_of(a=event, b=LONG)).added] == [3]


def test_a_payload_that_is_missing_is_an_error() -> None:
    stripped = Payloads().strip(document_of(event=encoded({"text": LONG})))
    with pytest.raises(PayloadMissing, match="payload 0 is missing"):
        put_back(stripped.document, {})


def test_documents_of_before_are_left_as_they_are() -> None:
    document = document_of(event={"$": 0, "text": LONG})
    assert put_back(document, {}) == document
    assert from_json(put_back(document, {}))["event"]["$"] == 0


def test_a_large_value_is_not_looked_into_part_by_part() -> None:
    rows = [{"id": number, "tags": ["a", {"b": str(number)}]} for number in range(5_000)]
    document = document_of(event=tagged(rows), result=tagged([rows, None]))
    payloads, stripped = Payloads(), list[Stripped]()
    assert count_calls(lambda: stripped.append(payloads.strip(document))) < 200
    added = known(stripped[0].added)
    assert len(added) == 2
    again: list[bytes] = []
    assert count_calls(lambda: again.append(put_back(stripped[0].document, added))) < 200
    assert again == [document]
