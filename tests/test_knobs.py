"""Defaults, limits and help of a configuration's keys: checked, inherited, printed."""

import math
from dataclasses import dataclass

import pytest

from asr.knobs import REQUIRED, Knobs, described, knob


@dataclass(frozen=True)
class Engine(Knobs, group="engine"):
    fuel: str = knob(REQUIRED, "kind of fuel", filled=True)
    power: float = knob(1.0, "kW", more_than=0)
    gears: int = knob(5, "forward", one_of=(1, 5, 6))
    share: float = knob(0.5, "of the load", at_least=0, at_most=1)
    ratios: list[float] = knob([1.0, 2.0], "of the gears", filled=True)


@dataclass(frozen=True)
class Diesel(Engine):
    fuel: str = "diesel"
    gears: int = knob(6, one_of=(6,))
    turbo: bool = knob(False, "compress the air")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"fuel": " "}, r"engine\.fuel is ' ', expected a value"),
        ({"power": 0.0}, r"engine\.power is 0\.0, expected more than 0"),
        ({"power": math.inf}, r"engine\.power is inf, expected a finite number"),
        ({"ratios": [math.inf]}, r"engine\.ratios is \[inf\], expected a finite number"),
        ({"power": math.nan}, r"engine\.power is nan, expected"),
        ({"gears": 4}, r"engine\.gears is 4, expected 1, 5 or 6"),
        ({"share": 1.5}, r"engine\.share is 1\.5, expected 0…1"),
        ({"ratios": []}, r"engine\.ratios is \[\], expected a value"),
    ],
)
def test_a_value_beyond_a_limit_is_named(values: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Engine(**{"fuel": "petrol", **values})  # type: ignore[arg-type]


def test_a_subclass_keeps_limits_that_it_does_not_set() -> None:
    assert Diesel().gears == 6
    for wrong in ({"fuel": ""}, {"gears": 5}, {"power": -1.0}):
        with pytest.raises(ValueError, match=f"engine.{next(iter(wrong))} is"):
            Diesel(**wrong)  # type: ignore[arg-type]


def test_lists_are_not_shared() -> None:
    assert Engine("petrol").ratios is not Engine("petrol").ratios


def test_help_has_default_and_limits_of_what_differs() -> None:
    assert list(described(Engine)) == [
        ("engine.fuel=…", "kind of fuel"),
        ("engine.power=1.0", "kW (more than 0)"),
        ("engine.gears=5", "forward (1, 5 or 6)"),
        ("engine.share=0.5", "of the load (0…1)"),
        ("engine.ratios=[1.0,2.0]", "of the gears"),
    ]
    assert list(described(Diesel, beside=Engine)) == [
        ("engine.fuel=diesel", "kind of fuel"),
        ("engine.gears=6", "forward (6)"),
        ("engine.turbo=false", "compress the air"),
    ]
