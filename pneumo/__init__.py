"""pneumo reads a frontal chest X-ray of a child for pneumonia.

`images` turns bytes into pixels (DICOM by `dicom`) and `predictor` pixels into an opinion, by the model of `card`;
`heatmap` draws where the opinion comes from. `dataset`, `augment`, `networks`, `pretraining`, `training`, `attribution`
and `export` make that model by an entry of `recipes`, `comparison` sets them side by side, and `preprocessing` is what
some of them do to a film first. `evaluation` and `report` say how good a model is, `operating` chooses the thresholds
that `card`, or a site's `profile`, names; `gate` refuses what is no chest film, `subgroups` and `faithfulness` look for
where the model fails. `cli` is all of it on the command line. HTTP lives in `app.py`, outside; what it asks of
`admission`, `turns`, `access`, `body`, `worker`, `metrics`, `logs` and `settings` knows no Flask. Importing this
package imports nothing heavy.
"""

import os

# read when TensorFlow is imported, wherever that is: it leaves oneDNN off where there is no AVX-512, and trains slower
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__version__ = "1.12.0"
