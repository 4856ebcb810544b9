"""``extraArgs``: users' flags, none of which may be one of the operator's, however it is spelled.

vLLM's parser takes each flag shortened, with underscores, with keys after a dot, and its short
flags with the value at once.
"""

from collections.abc import Iterable, Mapping

from seesaw_operator.api.rules import Rule
from seesaw_operator.api.template_rules import listed

_MOST_NAMED = 3
_FLAG = "flag.split('=')[0].split('.')[0].replace('_', '-')"


def sets(owned: Iterable[str]) -> str:
    """CEL: whether ``flag`` is one of those, begins one of them or is a short one with more.

    '--' begins each: all that follows it would be read as models. Each beginning is listed, since
    that is what the apiserver counts as cheap.
    """
    flags = list(owned)
    begun = sorted({flag[:end] for flag in flags for end in range(2, len(flag) + 1)})
    short = "|".join(flag for flag in flags if not flag.startswith("--"))
    return f"{_FLAG} in {begun}" + (f" || flag.matches('^({short})')" if short else "")


def told(owned: Mapping[str, str]) -> str:
    """For people: the flags, with the fields that set them; those of no field first.

    Of those that one field sets, the first few are named.
    """
    by_field: dict[str, list[str]] = {}
    for flag, field in owned.items():
        by_field.setdefault(field, []).append(flag)
    named = [", ".join(by_field.pop("", ()))]
    for field, flags in by_field.items():
        more = " and others" if len(flags) > _MOST_NAMED else ""
        named.append(f"{', '.join(flags[:_MOST_NAMED])}{more} ({field})")
    return listed([each for each in named if each])


def in_order(component: str) -> Rule:
    """The first is no bare word, which would be read as one more model or not at all."""
    return Rule(
        cel="!has(self.extraArgs) || self.extraArgs.size() == 0 || "
        "(self.extraArgs[0].startsWith('-') && self.extraArgs.all(each, each != ''))",
        message=f"{component}.extraArgs must begin with a flag, and hold no empty text: a value "
        "stands after its flag, or with it as in --flag=value",
        path=".extraArgs",
    )
