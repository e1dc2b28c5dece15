"""Trait predictions from representations, with baselines, controls and intervals. `traits_stage` runs it."""
