"""The server of the demo page: photographs in, faces with ages and genders out, nothing kept."""
