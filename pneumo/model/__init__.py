"""A film -> a prediction: the card, the served file, the gate, the heat map. Knows no Keras and no HTTP."""
