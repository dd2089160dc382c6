"""The faces of the hardware group: device, cartridge and calibration."""
