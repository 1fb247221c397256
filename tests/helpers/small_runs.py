"""Runs in this process, as small as they come."""

from ssah_jax.config import Config, from_config_dict


def config(**fields) -> Config:
    """A run of seconds on the digits; `fields` replace whole groups."""
    return from_config_dict(
        {
            "bits": 16,
            "steps": 10,
            "labels_per_class": 5,
            "log_every": 5,
            "checkpoint_every": 5,
            "batch": {"labelled": 8, "unlabelled": 8},
            "hnet": {"widths": (4, 8)},
            "anet": {"width": 4, "grid": 3},
            "data": {"num_queries": 50, "num_validation": 50},
            "eval": {"every": 5, "batch": 60, "max_database": 100},
        }
        | fields
    )
