"""Whose face the dataset shows, by config.data.appearance, and how many channels go with it. Imports nothing heavy."""

APPEARANCES = OWN, CANONICAL, MOTION = "own", "canonical", "motion"
CHANNELS = {OWN: (3, 1), CANONICAL: (3, 1), MOTION: (2,)}  # that config.data.channels may ask for


def wrong_channels(appearance: str, channels: int) -> str:
    """The sentence that refuses other channels than those of CHANNELS."""
    if appearance == MOTION:
        return f"config.data.appearance='motion' has two channels, x and y: set config.data.channels=2, not {channels}."
    return f"config.data.channels is {channels}; with config.data.appearance={appearance!r} it must be 3 (RGB) or 1 (grey)."
