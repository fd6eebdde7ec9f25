"""Why a run would fail here: tried out in processes of their own, and read from versions."""
