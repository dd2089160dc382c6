"""The registry is loaded by the migrations."""

from tests.integration.hardware.conftest import Hardware


async def test_every_type_starts_with_a_calibration_model(hardware: Hardware) -> None:
    rows = await hardware.fetch(
        "SELECT count(*) AS types, count(m.model_id) AS models FROM cartridge_types t "
        "LEFT JOIN calibration_models m ON (m.category, m.type_index) = (t.category, t.type_index)"
    )
    assert rows == [{"types": 30, "models": 30}]
