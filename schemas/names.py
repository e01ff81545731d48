"""Names: how long an id or a name may be, wherever a client sends one."""

from typing import Annotated

from pydantic import StringConstraints

MAX_NAME_LENGTH = 255
HANDLER_ID = rf"[A-Za-z0-9._~-]{{1,{MAX_NAME_LENGTH}}}"

Name = Annotated[str, StringConstraints(max_length=MAX_NAME_LENGTH)]
