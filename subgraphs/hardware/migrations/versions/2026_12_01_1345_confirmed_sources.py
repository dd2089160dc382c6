"""Sources of measuring ranges and critical limits, without citations that could not be confirmed."""

import sqlalchemy as sa
from alembic import op

from domain.hardware.cartridge.registry_data import TYPES

revision = "2026_12_01_1345"
down_revision = "2026_12_01_0558"
branch_labels = None
depends_on = None

_COLUMNS = ("source", "measuring_source")
_TYPES = sa.table("cartridge_types", *(sa.column(name) for name in ("category", "type_index", *_COLUMNS)))
_UNCONFIRMED = (
    "Ascensia Contour Next One, user guide (20-600 mg/dL); contains the 50-400 mg/dL that FDA asks for in Self-Monitoring Blood Glucose Test Systems for Over-the-Counter Use (2020).",
    "Cholestech LDX Lipid Profile, package insert (total cholesterol 100-500 mg/dL).",
    "Siemens DCA Vantage HbA1c, package insert (2.5-14.0 %).",
    "Roche Reflotron Uric Acid, package insert (2.0-20.0 mg/dL).",
    "Abbott i-STAT Creatinine, instructions for use (0.2-20.0 mg/dL).",
    "Roche Elecsys Vitamin D total III, method sheet (6-120 ng/mL).",
    "Roche Elecsys Vitamin B12 II, method sheet (100-2,000 pg/mL).",
    "Provisional, within Roche Elecsys Ferritin, method sheet (0.5-2,000 ng/mL).",
    "Provisional, within Roche Elecsys TSH, method sheet (0.005-100 mIU/L).",
    "Provisional, within Roche Elecsys Cortisol II, method sheet (0.0544-63.4 ug/dL).",
    "Provisional, within Roche Elecsys Testosterone II, method sheet (2.5-1,500 ng/dL).",
    "Roche Elecsys Estradiol III, method sheet (5-3,000 pg/mL).",
    "Roche Tina-quant CRP IV, method sheet (0.3-350 mg/L).",
    "Roche Elecsys Insulin, method sheet (0.4-1,000 uIU/mL).",
    "Provisional, within the range of conductivity meters for drinking water (Hanna DiST 1: 0-2,000 mg/L).",
    "FTLab RadonEye RD200, specification (0.2-99.9 pCi/L, 7-3,700 Bq/m3).",
    "R-Biopharm RIDASCREEN Gliadin R7001, package insert (5-80 mg/kg gluten).",
    "Provisional: within photoionization detectors (RAE Systems ppbRAE 3000: from 1 ppb).",
    "Reference: Mayo, URIC. Critical high: Kost 1990 (mean of high limits, 13 mg/dL).",
    "Reference: Mayo, CRTS1. Critical high: Kost 1990 (mean of high limits, 7.4 mg/dL).",
)


def upgrade() -> None:
    """Replace the texts as they shipped; what an administrator has written stays."""
    for entry in TYPES:
        for name in _COLUMNS:
            op.execute(
                _TYPES.update()
                .where(
                    _TYPES.c.category == entry.category,
                    _TYPES.c.type_index == entry.type_index,
                    _TYPES.c[name].in_(_UNCONFIRMED),
                )
                .values({name: getattr(entry, name)})
            )


def downgrade() -> None:
    """Leave the texts as they are: the earlier ones were wrong."""
