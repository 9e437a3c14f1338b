"""Faces in photographs: finding them, cutting them out as the training faces were, drawing."""
