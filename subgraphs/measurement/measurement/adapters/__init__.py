"""What measurement needs from the outside, as it is provided."""
