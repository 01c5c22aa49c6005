"""From plain data to values, and from what is wrong with it to a line that says where and what to do."""

from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


class ConfigError(Exception):
    """The user's configuration cannot be used; every reason is in `errors`, "path: what is wrong and what to do"."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


def validated(
    kind: type[T], value: Any, path: str, errors: list[str], *, upper: bool = False, tolerant: bool = False
) -> T | None:
    """Appends one line per error; `path` is where `value` stands. `tolerant` leaves out fields that nobody knows."""
    if value is None:
        return None
    try:
        return TypeAdapter(kind).validate_python(value, extra="ignore" if tolerant else None)
    except ValidationError as error:
        details = error.errors(include_url=False)
        for detail in details:
            if detail["type"] == "too_short" and any(
                other is not detail and other["loc"][: len(detail["loc"])] == detail["loc"] for other in details
            ):
                continue  # its items are at fault, not their number
            where = path
            for part in detail["loc"]:
                where += f"[{part}]" if isinstance(part, int) else f"{'.' if where else ''}{part}"
            errors.append(f"{where.upper() if upper else where}: {_remedy(detail)}")
        return None


def understood(kind: type[T], value: Any) -> T | None:
    """The value, for those who ask something else of it; what is wrong with it `validated` says."""
    return validated(kind, value, "", [])


_SECRETS: Final = ("api_key", "password")


def _remedy(detail: Any) -> str:
    context = detail.get("ctx", {})
    given = detail.get("input")
    secret = (detail["loc"] and detail["loc"][-1] in _SECRETS) or "@" in str(given)  # a URL may hold a password
    shown = f', not "{given}"' if isinstance(given, str | int | float) and not secret else ""
    match detail["type"]:
        case "missing":
            return "is required; add it"
        case "unexpected_keyword_argument" | "extra_forbidden":
            return "is not a known field; remove it or correct its spelling"
        case "literal_error":
            return f"must be {context['expected']}{shown}"
        case "greater_than_equal":
            return f"must be at least {context['ge']}{shown}"
        case "less_than_equal":
            return f"must be at most {context['le']}{shown}"
        case "string_pattern_mismatch":
            return f"must look like {context['pattern']}{shown}"
        case "value_error":
            return str(context["error"])
        case "dataclass_type" | "dict_type":
            return f"must be a section, {{ }}{shown}"
        case "tuple_type":
            return f"must be a list, [ ]{shown}"
        case _:
            return f"{detail['msg'][0].lower()}{detail['msg'][1:]}{shown}"
