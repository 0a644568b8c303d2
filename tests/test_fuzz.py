"""Every reader reads a good file, and reads or refuses a damaged one; more inputs: fuzz.py."""

from collections import Counter
from pathlib import Path

import fuzz
import pytest


@pytest.mark.parametrize("reader", fuzz.readers(), ids=lambda reader: reader.name)
def test_good_file_is_read(reader: fuzz.Reader, tmp_path: Path) -> None:
    path = tmp_path / reader.name
    path.write_bytes(reader.good)
    with fuzz.limits():
        assert fuzz.fault_of(reader, path) == ("read", "")


def test_damaged_files_are_read_or_refused() -> None:
    outcomes, faults = fuzz.run(fuzz.readers(), count=600, seed=2)
    assert faults == []
    assert set(sum(outcomes.values(), Counter())) == {"read", "refused"}
