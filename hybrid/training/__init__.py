"""What is trained and how: learners, steps, state, losses and the optimiser."""
