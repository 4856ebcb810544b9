"""What all parts of the resource have in common."""

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

_MOST_SHOWN = 200  # characters of what was written


class ApiModel(BaseModel):
    """A part of the resource: camelCase outside, snake_case here."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True
    )


def first_mistake(error: ValidationError) -> str:
    """What a model refuses first: its field, why, and what was written there."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    return f"{field}: {first['msg']} (got {repr(first['input'])[:_MOST_SHOWN]})"
