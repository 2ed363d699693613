"""Programs that show how ec_estimator is used; each runs as `python -m examples.X`."""
