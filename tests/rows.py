"""One row a method: options that make it tiny (seconds). `test_every_method.py` drives each row through everything."""

TINY_IMAGES = {
    "data": "digits",
    "widths": (8, 16),
    "teacher_updates": 6,
    "teacher_batch": 16,
    "teacher_steps": 4,
    "batch": 8,
    "samples": 200,
}

ROWS: dict[str, dict[str, object]] = {
    "dmd2": {**TINY_IMAGES, "student_updates": 3, "updates_ratio": 2},
    "mirage": {"graphs": 120, "max_bytes": 500, "updates": 20, "width": 8},
}
