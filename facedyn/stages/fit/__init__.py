"""Person filters of all people, in closed form or by iteration; `fit_stage` runs it."""
