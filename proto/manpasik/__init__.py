"""ManPaSik interface definitions and the code generated from them."""
