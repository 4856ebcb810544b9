"""What a text must look like, and the words that whoever wrote another one reads.

A pattern tells people nothing, and the apiserver would print nothing else. So the CRD carries each
form as a CEL rule with its words, and the models refuse in the same ones.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a text must look like.

    pattern: a regular expression that Go and Rust, which pydantic uses, read alike.
    words: what is taken, with an example: what follows the field's name in a message.
    cheap: CEL that says of ``self`` what the pattern says, where there may be so many texts that
        the pattern would use up the budget of an apiserver.
    """

    pattern: str
    words: str
    cheap: str = ""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        looks_so = core_schema.custom_error_schema(
            core_schema.str_schema(pattern=self.pattern),
            custom_error_type="form",
            custom_error_message=self.words,
        )
        return core_schema.chain_schema([handler(source), looks_so])

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(schema) | {"pattern": self.pattern, "words": self.words}

    def cel(self, text: str = "self") -> str:
        """CEL: whether a text has this form."""
        if self.cheap and text == "self":
            return self.cheap
        quote = '"' if "'" in self.pattern else "'"
        return f"{text}.matches(r{quote}{self.pattern}{quote})"
