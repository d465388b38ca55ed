"""What the codes of a trained model stand for."""
