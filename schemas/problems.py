"""Problems on the wire: RFC 9457."""

from pydantic import Field

from workflow_server.schemas.answers import AnswerModel


class Fault(AnswerModel):
    """One fault of a malformed request, and its place."""

    loc: list[str | int] = Field(
        description="The path to the fault.", examples=[["body", "start_event", "name"]]
    )
    msg: str = Field(examples=["Field required"])
    type: str = Field(examples=["missing"])


class Problem(AnswerModel):
    """An error, as RFC 9457 has it, with a `code` for programs and a `detail` for people."""

    type: str = Field(description="Always `about:blank`.", examples=["about:blank"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(
        description="What was wrong and what would be right.",
        examples=["No handler has the id 'abc'."],
    )
    code: str = Field(examples=["handler_not_found"])
    errors: list[Fault] | None = Field(description="The faults of a malformed request, or null.")
