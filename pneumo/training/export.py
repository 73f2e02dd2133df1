"""Keras model -> the served LiteRT file, int8 inside and float32 at both ends."""

import contextlib
import io
import logging
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from pneumo.films.film import to_input
from pneumo.training.networks import GATE_LAYERS, served_model


def export(
    model: keras.Model,
    films: np.ndarray,
    path: Path,
    layers: Sequence[str] = GATE_LAYERS["vgg16"],
    precision: str = "int8",
) -> None:
    """Write `networks.served_model` in float32, or as full-integer int8 calibrated on `films` (n, H, W) uint8.

    In int8, the layer that makes the map stays in float32, since the logits would move in steps of 1/256 of their
    range; so do the averages that the gate reads.

    Raises:
        ValueError: the converter used an operation that plain LiteRT does not have.
    """
    from ai_edge_litert.interpreter import Interpreter
    from litert_quantizer import qtyping, quantizer, recipe

    size = model.input.shape[1]
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "float.tflite")
        logging.getLogger("tensorflow").setLevel(logging.WARNING)  # it would name temporary files
        with contextlib.redirect_stdout(io.StringIO()):  # and so would this one
            served_model(model, layers).export(plain, format="litert", verbose=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        if precision == "float32":
            shutil.copyfile(plain, path)
            _only_plain_operations(path)
            return
        interpreter = Interpreter(str(plain))
        ((signature, ends),) = interpreter.get_signature_list().items()
        (last,) = (one["name"] for one in interpreter.get_output_details() if one["shape"][-1] == 1)
        worker = quantizer.Quantizer(str(plain), recipe.static_wi8_ai8())
        for operation in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            worker.update_quantization_recipe(".*", operation, algorithm_key="no_quantize")
        for where, operation in (
            (re.escape(last), qtyping.TFLOperationName.CONV_2D),
            (".*", qtyping.TFLOperationName.AVERAGE_POOL_2D),
        ):
            worker.update_quantization_recipe(where, operation, algorithm_key="no_quantize")
        examples = [{ends["inputs"][0]: to_input(film, size)} for film in films]
        with contextlib.redirect_stdout(io.StringIO()):  # sizes of temporary files
            worker.quantize(worker.calibrate({signature: examples})).export_model(path, overwrite=True)
    _only_plain_operations(path)


def _only_plain_operations(path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    for operation in Interpreter(str(path))._get_ops_details():
        if operation["op_name"].startswith("Flex"):
            raise ValueError(f"Expected only LiteRT's own operations in {path}, received {operation['op_name']}.")
