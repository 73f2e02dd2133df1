"""The server that tutorials show, to compare with and for nothing else: Flask, Keras, `model.predict`, one process.

It answers with the same network in float32. It checks nothing: whatever is no film gets an answer, or a fault.
"""

import io

import numpy as np
from flask import Flask, Response, jsonify, request
from PIL import Image

from pneumo import LABELS
from pneumo.model.card import read_card
from pneumo.training.networks import from_card

card = read_card(roles=("base", "top"))
model = from_card(card)
app = Flask(__name__)


@app.post("/predict")
def predict() -> Response:
    image = Image.open(io.BytesIO(request.get_data())).convert("RGB").resize((card.size, card.size))
    probability = float(model.predict(np.asarray(image, np.float32)[None], verbose=0)[0, 0])
    return jsonify({"label": LABELS[probability >= 0.5], "probability": probability})
