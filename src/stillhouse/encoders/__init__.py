"""Text encoders: data, tokenizers, models, losses, teacher-output cache, shared by the text methods."""
