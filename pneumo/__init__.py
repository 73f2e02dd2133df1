"""pneumo reads a frontal chest X-ray of a child or an adult for pneumonia.

The rooms, and the direction of their imports (held by import-linter, see pyproject.toml):

    cli -> archive -> reports -> training -> evaluation -> {model, data} -> films -> errors
    cli -> node -> model
    app.py -> web -> {model, the node's store}

films       bytes -> one grey film, the one truth about pixels in training and in serving (a new image format)
model       a film -> an opinion: card, served file, gate, operating points, heat map; no Keras (a new operating point)
data        folders of films -> patients -> parts, acquisition, augmentation (a new hospital's films)
evaluation  labels and probabilities -> figures with intervals, thresholds, subgroups, shortcuts
training    a recipe -> files in models/; the only Keras (a new network)
reports     figures and pages
archive     films of an archive, wherever they lie -> rows in parts -> one table (a new source or format)
node        films by DICOM network, results back into their study, nothing lost in between (a new result)
web         the page, /predict, health, metrics; the only Flask (a new route)
cli         one file a command

Importing this package imports nothing heavy.
"""

import os

# read when TensorFlow is imported, wherever that is: it leaves oneDNN off where there is no AVX-512, and trains slower
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__version__ = "3.1.0"
LABELS = ("NORMAL", "PNEUMONIA")  # in the order of the targets 0 and 1
