"""A recipe -> the files in models/. The only room that imports Keras."""
