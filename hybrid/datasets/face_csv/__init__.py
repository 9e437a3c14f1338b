"""One's own faces, listed in a CSV file, as a TFDS builder."""
