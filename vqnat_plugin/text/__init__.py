"""From raw text to the tokens of a model and back, the same way in training and in use. Needs no torch."""
