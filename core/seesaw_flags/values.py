"""Numbers and names on a command line. Each says what it takes, and takes nothing beyond it.

Numbers are stricter than ``int`` and ``float``: ASCII digits alone, finite, and never so large that
what is computed from them overflows.
"""

import re
from argparse import ArgumentTypeError
from dataclasses import dataclass

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_LONGEST = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A whole number from ``least`` to ``most``."""

    least: int = 1
    most: int = 2**31 - 1

    def __call__(self, text: str) -> int:
        """Raises: ArgumentTypeError."""
        found = int(text) if _WHOLE.fullmatch(text) else None
        if found is None or not self.least <= found <= self.most:
            raise ArgumentTypeError(
                f"must be a whole number from {self.least} to {self.most}, got {shown(text)}"
            )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number from ``least`` (or ``above`` it) to ``most`` (or ``below`` it)."""

    least: float = 0.0
    above: float | None = None
    most: float = 1e9
    below: float | None = None

    def __call__(self, text: str) -> float:
        """Raises: ArgumentTypeError."""
        is_number = len(text) <= _LONGEST and _NUMBER.fullmatch(text)
        if not is_number or not self._allows(float(text)):
            raise ArgumentTypeError(f"must be a number {self.allowed}, got {shown(text)}")
        return float(text)

    @property
    def allowed(self) -> str:
        lower = f"of at least {self.least:g}" if self.above is None else f"above {self.above:g}"
        upper = f"at most {self.most:g}" if self.below is None else f"below {self.below:g}"
        return f"{lower} and {upper}"

    def _allows(self, value: float) -> bool:
        is_enough = value >= self.least if self.above is None else value > self.above
        return is_enough and (value <= self.most if self.below is None else value < self.below)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text of one form, which ``form`` tells in words."""

    pattern: re.Pattern[str]
    form: str

    def __call__(self, text: str) -> str:
        """Raises: ArgumentTypeError."""
        if not self.pattern.fullmatch(text):
            raise ArgumentTypeError(f"must be {self.form}, got {shown(text)}")
        return text


PORT = Whole(least=1, most=65535)
SEED = Whole(least=0, most=2**32 - 1)
POSITIVE = Number(above=0)
NOT_NEGATIVE = Number()
LABEL_PATTERN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SHORT_LABEL_PATTERN = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
SUBDOMAIN_PATTERN = rf"{LABEL_PATTERN}(\.{LABEL_PATTERN})*"
DIGEST_PATTERN = r"sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})"
IMAGE_PATTERN = (  # [HOST[:PORT]/]NAME[:TAG][@DIGEST]
    r"(([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*"
    r"|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/)?"
    r"[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*)*"
    rf"(:[A-Za-z0-9_][-A-Za-z0-9_.]{{0,127}})?(@{DIGEST_PATTERN})?"
)
NAMESPACE = Text(
    pattern=re.compile(SHORT_LABEL_PATTERN),
    form="a namespace: up to 63 lower-case letters, digits and '-', the first and the last a "
    "letter or digit",
)
KUBERNETES_NAME = Text(
    pattern=re.compile(rf"(?=.{{1,253}}\Z){SUBDOMAIN_PATTERN}"),
    form="a Kubernetes name: up to 253 lower-case letters, digits, '-' and '.', a letter or digit "
    "first, last and on both sides of each '.'",
)
IMAGE = Text(
    pattern=re.compile(rf"(?=.{{1,1024}}\Z){IMAGE_PATTERN}"),
    form="the name of an image, up to 1024 characters: registry.example.com/team/name:tag, of "
    "which only the name must be there, and a whole digest, such as '@sha256:' and 64 hex digits",
)


def shown(text: str, longest: int = _LONGEST) -> str:
    """A value as an error shows it: in one line, and not all of a long one."""
    return repr(text if len(text) <= longest else text[:longest] + "...")
