"""One row a method: options that make it tiny (seconds). `test_every_method.py` drives each row through everything."""

ROWS: dict[str, dict[str, object]] = {
    "mirage": {"graphs": 120, "max_bytes": 500, "updates": 20, "width": 8},
}
