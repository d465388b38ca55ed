"""Why a trained model scores what it scores: where quality is lost, and what its codes stand for."""
