"""Whatever is put together of what a run can hold comes back equal, and no data forges a tag."""

from datetime import UTC
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from workflows.events import Event

from app.engine.values.codec import Codec
from tests.users.files.equality import describe
from tests.users.files.kinds import Color, Fleet, Frozen, Part, Point, Truck, Vehicle

CODEC = Codec()

text = st.text(st.characters(exclude_categories=()))  # lone surrogates too
keys = st.one_of(text, st.sampled_from(["!", "c", "v", "f", "p"]))
hashable = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        text,
        st.binary(),
        st.decimals(allow_nan=False),
        st.dates(),
        st.times(),
        st.timedeltas(),
        st.uuids(),
        st.sampled_from(Color),
        st.datetimes(timezones=st.one_of(st.none(), st.just(UTC), st.timezones())),
        st.builds(Frozen, text),
        st.floats(allow_nan=False),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, inner), st.frozensets(inner, max_size=3), st.builds(Point, inner, inner)
    ),
    max_leaves=6,
)
values = st.recursive(
    st.one_of(hashable, st.floats(), st.complex_numbers(), st.builds(SecretStr, text)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(keys, inner, max_size=4),
        st.dictionaries(hashable, inner, max_size=3),
        st.sets(hashable, max_size=3),
        st.builds(lambda it: Fleet(first=Truck(load=1), note=it), inner),
        st.builds(lambda it: Vehicle.model_construct(wheels=it), inner),
        st.builds(lambda it: Part(it), inner),
        st.builds(lambda it: Event(**{"it": it, "!": it}), inner),
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(values)
def test_a_value_comes_back_equal(value: Any) -> None:
    before = describe(value)
    encoded = CODEC.serialize(value)
    again = CODEC.deserialize(encoded)
    assert describe(again) == before == describe(value)
    assert CODEC.serialize(again) == encoded
