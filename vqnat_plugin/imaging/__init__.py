"""Looking at trained image models: bits a dimension, pictures, and code grids as files."""
