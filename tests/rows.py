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
    "fair_tables": {
        "most_rows": 600,
        "teacher_updates": 4,
        "student_updates": 4,
        "sampler_updates": 4,
        "tabfairgan_updates": 4,
        "batch": 64,
        "measured_rows": 200,
    },
    "dmd2": {**TINY_IMAGES, "student_updates": 3, "updates_ratio": 2},
    "swiftbrush": {
        **{name: value for name, value in TINY_IMAGES.items() if name != "data"},
        "student_updates": 4,
        "lora_rank": 2,
    },
    "distiller": {
        "teacher": "scratch",
        "examples": 60,
        "scratch_layers": 2,
        "scratch_width": 32,
        "scratch_pieces": 400,
        "scratch_updates": 2,
        "teacher_updates": 4,
        "max_tokens": 24,
        "layers": 1,
        "embedding": 16,
        "updates": 4,
        "batch": 8,
        "intermediate": "mi",
        "augmentation": ("swap", "contextual"),
        "mixup": True,
    },
    "mirage": {"graphs": 120, "max_bytes": 500, "updates": 20, "width": 8},
    "disback": {
        **TINY_IMAGES,
        "student_updates": 4,
        "updates_ratio": 2,
        "nodes": 2,
        "recording_updates": 4,
        "switch": "fixed",
        "switch_updates": 2,
    },
    "multi_student": {
        **TINY_IMAGES,
        "students": 2,
        "student_updates": 2,
        "adversarial_updates": 1,
        "updates_ratio": 2,
    },
}
