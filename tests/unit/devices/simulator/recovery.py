"""The inverse of the forward model as its docstring states it, for one reader and its factory calibration."""

import numpy as np

from devices.frame import RawFrame
from devices.simulator.forward_model import FactoryCalibration, ForwardModel, env_factor, replay
from devices.simulator.mard import mard_percent
from devices.simulator.traces import GlucoseTrace


def recover_mg_dl(frame: RawFrame, calibration: FactoryCalibration, k_t: float, k_h: float) -> float:
    corrected = frame.raw_channels - frame.alpha * frame.s_ref
    env = env_factor(frame.temp_c, frame.humidity_pct, k_t, k_h)
    return float(np.median(calibration.channel_gains * (corrected / env) + calibration.channel_offsets))


def recovered_mard(model: ForwardModel, trace: GlucoseTrace, *, frames_per_reading: int = 5) -> float:
    """MARD in percent over a trace; coefficients as the cartridge tag carries them (exact)."""
    calibration = model.calibration()
    k_t, k_h = model.temp_coefficient, model.humidity_coefficient
    true, recovered = [], []
    for glucose_mg_dl, frames in replay(model, trace, frames_per_reading=frames_per_reading):
        true.append(glucose_mg_dl)
        recovered.append(float(np.median([recover_mg_dl(frame, calibration, k_t, k_h) for frame in frames])))
    return mard_percent(recovered, true)
