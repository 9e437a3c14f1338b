"""What people read of a finished run, made from the workdir alone: its card and its report."""
