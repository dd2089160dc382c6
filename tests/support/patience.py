"""How long tests wait for what has to come. Only a failure takes as long, and a busy machine takes its time."""

PATIENCE_S = 60.0
