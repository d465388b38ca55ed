"""Where a trained model loses quality."""
