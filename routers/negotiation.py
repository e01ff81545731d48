"""Choice of what a client prefers, of what there is (RFC 9110, section 12.5)."""

import re
from collections.abc import Iterator, Sequence

# Section 12.4.2: up to three decimals. Whatever else stands there is no weight.
WEIGHT = re.compile(r"(0(\.[0-9]{0,3})?|1(\.0{0,3})?)")
# What a range may say of a media type without meaning another one: all text here is UTF-8.
PARAMETERS = {"", "charset=utf-8"}


def read_weights(header: str) -> Iterator[tuple[str, str, float]]:
    """Yield each member of a list of preferences: its name, its parameters and its weight.

    A member with a weight that is none is passed over.
    """
    for member in header.lower().split(","):
        name, *parameters = (part.strip() for part in member.split(";"))
        weights = [p.partition("=")[2].strip() for p in parameters if p.startswith("q=")]
        if name and all(WEIGHT.fullmatch(weight) for weight in weights):
            others = ";".join(p.replace('"', "") for p in parameters if not p.startswith("q="))
            yield name, others, float(weights[0]) if weights else 1.0


def choose_media_type(accept: str, offered: Sequence[str]) -> str:
    """Return the media type that an `Accept` prefers of those offered, the first of equal ones.

    The most specific range that a type is in gives its weight (section 12.5.1). Where none is
    acceptable the first is chosen, as that section allows, so that no client is refused.
    """
    ranges = list(read_weights(accept))
    return max(offered, key=lambda offer: _weigh(offer, ranges)) if ranges else offered[0]


def _weigh(offer: str, ranges: Sequence[tuple[str, str, float]]) -> float:
    kind = offer.partition("/")[0]
    for wanted in (offer, f"{kind}/*", "*/*"):
        weights = [w for name, others, w in ranges if name == wanted and others in PARAMETERS]
        if weights:
            return max(weights)
    return 0.0


def takes_coding(accept_encoding: str, coding: str) -> bool:
    """Return whether an `Accept-Encoding` takes a coding (section 12.5.3); `*` is the others."""
    weights = {name: weight for name, _, weight in read_weights(accept_encoding)}
    return weights.get(coding, weights.get("*", 0.0)) > 0
