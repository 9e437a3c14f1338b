"""IMDB-WIKI, the faces cropped by its authors, as a TFDS builder."""
