"""The bounds that a benchmark's figures are held to, as its budget file has them."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Budget:
    """One of the bounds is there, or none: then the figure is to be known, and is neither kept nor missed."""

    what: str
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    above: float | None = None
    below: float | None = None

    @property
    def bounded(self) -> bool:
        return (self.at_most, self.at_least, self.above, self.below) != (None, None, None, None)

    def kept(self, value: float) -> bool:
        if self.at_most is not None:
            return value <= self.at_most
        if self.at_least is not None:
            return value >= self.at_least
        if self.below is not None:
            return value < self.below
        return self.above is not None and value > self.above

    def __str__(self) -> str:
        bounds = (("<=", self.at_most), (">=", self.at_least), (">", self.above), ("<", self.below))
        return next(f"{sign} {bound:g} {self.unit}".rstrip() for sign, bound in bounds if bound is not None)


def read(path: Path) -> dict[str, Budget]:
    return {name: Budget(**fields) for name, fields in json.loads(path.read_text())["rows"].items()}
