"""Text as it is found: reading, cleaning, de-identification, span checks and generation filters."""
