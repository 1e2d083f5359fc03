"""One unit of cluster work each: Prefect tasks, and under them the Ray actors and Ray Train calls."""
