"""Bodies that are small and cost much: documents of as many values as fit."""

MAX_VALUES = 200_000  # as the settings have it by default
MIB = 1024 * 1024


def number_of_values(value: object) -> int:
    """Return how many values a parsed document has, and names of members."""
    match value:
        case list():
            return 1 + sum(map(number_of_values, value))
        case dict():
            return 1 + sum(1 + number_of_values(member) for member in value.values())
        case _:
            return 1


def repeat(item: str, count: int) -> str:
    """Return an array of so many equal items."""
    return f"[{','.join([item] * count)}]"


def members(value: str, count: int) -> str:
    """Return an object with so many members."""
    return "{" + ",".join(f'"k{number}":{value}' for number in range(count)) + "}"


def nest(depth: int) -> str:
    """Return arrays in one another."""
    return "[" * depth + "]" * depth


# Within the limits, with as much in them as the limits allow.
HEAVY = {
    "empty arrays": repeat("[]", 199_900),
    "empty objects": repeat("{}", 199_900),
    "members": members("1", 99_900),
    "members of arrays": members("[]", 99_900),
    "marks of the codec": repeat('{"!":1}', 66_600),
    "marks of the journal": repeat('{"$":1}', 66_600),
    "depth": repeat(nest(150), 199_900 // 150),
    "mixed": repeat('[1,"a",{"b":null}]', 33_300),
    "texts": repeat('"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"', 199_900),
    "numbers": repeat("1.2345678901234567e-300", 199_900),
    "long numbers": repeat("9" * 4299, 450),
    "escapes": '"' + "\\u0041" * (1_700_000) + '"',
    "quotation marks": '"' + '\\"' * (5 * MIB - 500) + '"',
}
# Beyond them, in no more bytes than are allowed.
TOO_MANY = {
    "empty arrays": repeat("[]", 3_400_000),
    "objects": repeat('{"a":1}', 1_200_000),
    "numbers": repeat("1", 5_000_000),
    "members": members("[]", 101_000),
    "spaced arrays": repeat(" [ ] ", 201_000),
    "long numbers": repeat("9" * 4299, 2_400),
    "one more than may be": repeat("1", 200_000),
}
