"""The prepared data set: written, grown, read, forgotten."""
