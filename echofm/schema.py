"""FrozenModel: the frozen, strict base of every result and configuration, saved and read back as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from echofm.errors import EchofmError

M = TypeVar("M", bound="FrozenModel")


class FrozenModel(pydantic.BaseModel):
    """A result or a configuration: no field can be misspelt, none can change once made.

    Fields carry their unit in their name; the string under a field is its line in `--help`.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def to_json(self) -> str:
        """The whole configuration, indented, keys in the order of the class."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def checked(cls: type[M], values: Mapping[str, Any], *, where: str) -> M:
        """Made of values that a user gave. Raises EchofmError naming `where` they are from and the field."""
        try:
            return cls.model_validate(values)
        except pydantic.ValidationError as error:
            raise EchofmError(f"{where}: {first_problem(error)}") from None

    @classmethod
    def from_json(cls: type[M], path: str | Path) -> M:
        """Read one back. Raises EchofmError naming the file and the field that is wrong."""
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise EchofmError(f"{path}: no such configuration") from None
        except (pydantic.ValidationError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise EchofmError(f"{path}: {first_problem(error)}") from None


def first_problem(error: Exception) -> str:
    """One line for what a validation, or the reading of a JSON file, found wrong first."""
    if not isinstance(error, pydantic.ValidationError):
        return "not a UTF-8 JSON file"
    first = error.errors(include_url=False, include_input=False)[0]
    field, message = ".".join(str(part) for part in first["loc"]), first["msg"].removeprefix("Value error, ")
    return f"{field}: {message}" if field else message
