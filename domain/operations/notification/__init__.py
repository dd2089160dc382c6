"""Messages to people, by the channels that they want."""
