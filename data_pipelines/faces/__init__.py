"""From a video file to aligned face crops."""
