"""`manpasik up`: the whole platform on one machine, from an empty folder to live answers, and down again."""
