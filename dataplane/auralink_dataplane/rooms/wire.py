"""How values stand in JSON: camelCase, as in the guide and in custom resources; what nobody knows is left out."""

from typing import Final

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

WIRE: Final = ConfigDict(
    alias_generator=to_camel,
    validate_by_name=False,
    validate_by_alias=True,
    extra="ignore",
    allow_inf_nan=False,
)
"""A newer version may write more fields than this one reads; numbers are finite."""
