"""``extraArgs``: users' flags, none of which may be one of the operator's, however it is spelled.

vLLM's parser takes each flag shortened, with underscores, with keys after a dot, and its short
flags with the value at once.
"""

from collections.abc import Iterable, Mapping

from seesaw_operator.api.rules import Reason, Rule
from seesaw_operator.api.template_rules import listed

_MOST_NAMED = 3
_FLAG = "self.split('=')[0].split('.')[0].replace('_', '-')"


def entry_rules(component: str, owned: Mapping[str, str]) -> tuple[Rule, ...]:
    """Rules on each entry of a component's ``extraArgs``.

    owned: by flag, the field that sets it; empty where there is none.
    """
    where = f"{component}.extraArgs"
    return (
        Rule(
            cel="self != ''",
            message=f"{where} must hold no empty text: a value stands after its flag, or with it "
            "as in --flag=value",
        ),
        Rule(
            cel="!self.contains('$(')",
            message=f"{where} must not hold $(NAME), in whose place a variable's value would be "
            "put: write the value itself",
            reason=Reason.FORBIDDEN,
        ),
        Rule(
            cel=f"self.contains('$(') || !({_sets(owned)})",
            message=f"{where} must not set what the operator sets: {_listed(owned)}",
            told=f"\"{where} must not set what the operator sets, as '\" + self.split('=')[0] + "
            f'"\' does: " + [{_FLAG}].map(flag, '
            "flag == '--' ? 'it ends the flags. Leave it out' : "
            f"'it may be read as ' + ({_meant(owned)})[0])[0]",
            reason=Reason.FORBIDDEN,
        ),
    )


def _sets(owned: Iterable[str]) -> str:
    """CEL: whether an entry is one of those, begins one of them or is a short one with more.

    '--' begins each: all that follows it would be read as models. Each beginning is listed, since
    that is what the apiserver counts as cheap.
    """
    flags = list(owned)
    begun = sorted({flag[:end] for flag in flags for end in range(2, len(flag) + 1)})
    short = "|".join(flag for flag in flags if not flag.startswith("--"))
    return f"{_FLAG} in {begun}" + (f" || self.matches('^({short})')" if short else "")


def _meant(owned: Mapping[str, str]) -> str:
    """CEL: a list of the flags that ``flag`` may stand for, each with what to do instead. It is
    not joined: of that, an apiserver has no estimate."""
    told = {
        flag: f"{flag}. " + (f"Set {field} instead" if field else "Leave it out")
        for flag, field in owned.items()
    }
    long = [told[flag] for flag in owned if flag.startswith("--")]
    found = [f"{long}.filter(each, each.startsWith(flag))"]
    for short in (flag for flag in owned if not flag.startswith("--")):
        is_it = f"flag.startsWith('{short}') || '{short}'.startsWith(flag)"
        found.append(f"({is_it} ? ['{told[short]}'] : [])")
    return " + ".join(found)


def _listed(owned: Mapping[str, str]) -> str:
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
        cel="!has(self.extraArgs) || self.extraArgs.size() == 0 || self.extraArgs[0] == '' || "
        "self.extraArgs[0].startsWith('-') || self.extraArgs[0].contains('$(')",
        message=f"{component}.extraArgs must begin with a flag: a value stands after its flag, or "
        "with it as in --flag=value",
        told='"' + f"{component}.extraArgs must begin with a flag, which '\" + "
        "self.extraArgs[0] + \"' is not: a value stands after its flag, or with it as in "
        '--flag=value"',
        path=".extraArgs",
    )
