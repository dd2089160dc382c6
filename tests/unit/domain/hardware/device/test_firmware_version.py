"""Versions of firmware order as Semantic Versioning says."""

import itertools

import pytest

from domain.hardware.device.firmware_version import FirmwareVersion, FirmwareVersionInvalid

# Semantic Versioning 2.0.0, section 11.
ORDER = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
ORDER += ["1.0.0-rc.1", "1.0.0", "1.0.1", "1.2", "1.10.0", "2.0.0"]


def test_precedence_is_that_of_the_specification() -> None:
    for older, newer in itertools.combinations(map(FirmwareVersion.parse, ORDER), 2):
        assert older < newer
        assert not newer < older


def test_prefix_build_and_missing_patch_do_not_change_precedence() -> None:
    same = {FirmwareVersion.parse(text) for text in ("1.2.0", "v1.2.0", "1.2", "1.2.0+build.5")}
    assert len(same) == 1


@pytest.mark.parametrize("text", ["", "1", "1.2.3.4", "01.2.3", "1.2.x", "1.2.3-", "1.2.3 ", "١.٢.٣", "1." + "2" * 40])
def test_other_texts_are_no_versions(text: str) -> None:
    with pytest.raises(FirmwareVersionInvalid):
        FirmwareVersion.parse(text)
