"""Pure functions of `keras.ops`: the Poincare ball, optimal transport."""
