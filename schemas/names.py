"""Names: how long an id or a name may be, wherever a client sends one."""

from typing import Annotated

from pydantic import StringConstraints

MAX_NAME_LENGTH = 255
# Clients and proxies take `.` and `..` out of a path, however they are spelled (RFC 3986, section
# 5.2.4): a request for something of this name would reach another resource.
DOTS = frozenset({".", ".."})
# Any but those two, without a lookahead, which linear engines do not have; the length is a limit of
# its own.
HANDLER_ID = r"\.*[A-Za-z0-9_~-][A-Za-z0-9._~-]*|\.{3,}"

Name = Annotated[str, StringConstraints(max_length=MAX_NAME_LENGTH)]
