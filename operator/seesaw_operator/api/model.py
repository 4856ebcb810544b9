"""What all parts of the resource have in common."""

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

_MOST_SHOWN = 200  # characters of what was written
_MOST_NAMED = 8  # fields


class ApiModel(BaseModel):
    """A part of the resource: camelCase outside, snake_case here."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True
    )


def first_mistake(error: ValidationError) -> str:
    """What a model refuses first: its field, why, and what was written there; then the other
    fields that are wrong, by their names."""
    first, *more = error.errors()
    told = f"{_field(first['loc'])}: {first['msg']} (got {repr(first['input'])[:_MOST_SHOWN]})"
    others = list(dict.fromkeys(_field(each["loc"]) for each in more))
    if not others:
        return told
    rest = f" and {len(others) - _MOST_NAMED} others" if len(others) > _MOST_NAMED else ""
    return f"{told}; wrong as well: {', '.join(others[:_MOST_NAMED])}{rest}"


def _field(path: tuple[int | str, ...]) -> str:
    return ".".join(map(str, path))
