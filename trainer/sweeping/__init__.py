"""A search for good flags: many runs, each with flags that Optuna suggests."""
