"""A film -> an opinion: card, served file, gate, heat map. Knows no Keras and no HTTP."""
