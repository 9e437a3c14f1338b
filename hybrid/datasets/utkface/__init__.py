"""UTKFace, aligned and cropped, as a TFDS builder."""
